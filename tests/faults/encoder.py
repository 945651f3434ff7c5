"""A scripted encoder in place of the model: fast, its vector a function of the text, and it dies where it is told to.

Settings: FAULTS_POISON, JSON {word: what a text holding that word does}; FAULTS_LOG, a file that gets a line each time one does;
FAULTS_ENCODE_S, seconds per text; FAULTS_READ, JSON {word: what reading a text that holds it does}; FAULTS_GATE, anything: a
replica encodes the gate's texts when it is loaded.
"""

import ctypes
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from pipeline.flow.context import JobContext

DIMENSIONS = 32  # those of tests/support/models.py's tiny model, whose tokenizer and lock the job uses

EXIT = 77
"""How a process ends by itself over a text: with none of the program's own codes, so that a refusal can't pass for a death."""


def vector_of(token_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """float32 [DIMENSIONS] of a text's token ids. Different texts have different vectors. `oracle.vector_due` says the same in
    its own way."""
    digest = hashlib.blake2b(np.ascontiguousarray(token_ids, np.int32).tobytes(), digest_size=DIMENSIONS).digest()
    return np.frombuffer(digest, np.uint8).astype(np.float32) - np.float32(127.5)


@dataclass(frozen=True)
class Stats:
    """As much of the encoder's as is asked for. Its own would bring torch along, and seconds for each process."""

    batches: int = 0
    padded_tokens: int = 0


@dataclass(frozen=True)
class Gate:
    """As much of the gate's result as is asked for."""

    def to_json(self) -> dict[str, object]:
        return {"samples": 1, "min_cosine": "1.0", "max_relative_l2": "0.0", "reason": "scripted"}


class ScriptedEncoder:
    """What `pipeline.flow.replica` needs of an encoder."""

    fast = False
    broken = False  # this process's device: no other replica comes up on it

    def __init__(self, directory: str) -> None:
        times = int(_card().read_text()) if _card().exists() else 0
        if times:
            _card().write_text(str(times - 1))
            note("cardless")
            raise RuntimeError("no CUDA-capable device is detected")
        if self.broken:
            note("deviceless")
            raise RuntimeError("an illegal memory access was encountered")
        from tokenizers import Tokenizer

        from pipeline.encode.placement import Placement

        tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.placement = Placement("cpu", "float32", "scripted")
        self.stats = Stats()
        self._seconds = float(os.environ.get("FAULTS_ENCODE_S", "0"))
        poison = json.loads(os.environ.get("FAULTS_POISON", "{}"))
        self._poison = {tuple(tokenizer.encode(word, add_special_tokens=False).ids): do for word, do in poison.items()}
        self._words = dict(zip(self._poison, poison, strict=True))

    def measure(self, texts: Sequence[str]) -> None:
        """Encode texts as the parity gate does when a replica is loaded."""
        for text in texts:
            ids = np.array(self._tokenizer.encode(text).ids, np.int32)
            self.encode(ids, np.array([0, len(ids)]))

    def encode(self, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        vectors = np.empty((len(offsets) - 1, DIMENSIONS), np.float32)
        for row in range(len(vectors)):
            ids = token_ids[offsets[row] : offsets[row + 1]]
            vectors[row] = vector_of(ids)
            self._suffer(ids, vectors[row], alone=len(vectors) == 1)
        self.stats = Stats(self.stats.batches + 1)
        if self._seconds:
            time.sleep(self._seconds * len(vectors))  # a model that takes its time
        return vectors

    def _suffer(self, ids: npt.NDArray[np.int32], vector: npt.NDArray[np.float32], *, alone: bool) -> None:
        text = ids.tolist()
        for word, what in self._poison.items():
            if any(tuple(text[at : at + len(word)]) == word for at in range(len(text))):
                note(self._words[word])
                suffer(what, vector, alone=alone)


def _card() -> Path:
    """How often no process can use the machine's device."""
    return Path(os.environ.get("FAULTS_LOG", "/nowhere") + ".card")


def note(word: str) -> None:
    """One more line in the log, on disk before anything else happens."""
    if "FAULTS_LOG" in os.environ:
        with Path(os.environ["FAULTS_LOG"]).open("a") as log:
            log.write(f"{word} {os.getpid()}\n")


def suffer(what: str, vector: npt.NDArray[np.float32], *, alone: bool) -> None:
    """Do to this process what a poisonous text does."""
    if what == "exit":
        os._exit(EXIT)
    elif what == "segfault":
        ctypes.string_at(0)
    elif what == "kill":  # as the kernel does when memory runs out
        os.kill(os.getpid(), 9)
    elif what == "kill twice":
        if len(Path(os.environ["FAULTS_LOG"]).read_text().splitlines()) <= 2:
            os.kill(os.getpid(), 9)
    elif what == "hang":
        while True:
            time.sleep(1)
    elif what == "memory":
        raise MemoryError
    elif what == "all memory":
        taken = [np.empty(1 << 30, np.uint8) for _ in range(128)]  # raises where somebody has set a limit
        os.kill(os.getpid(), 9 if taken else 0)  # else the system, or a cluster's guard, ends the process
    elif what == "device":
        from pipeline.errors import EncodeError

        raise EncodeError("one text of 9 tokens doesn't fit into the memory of the cpu")
    elif what == "broken card":
        if not _card().exists():
            _card().write_text("3")
        raise RuntimeError("an illegal memory access was encountered")
    elif what == "broken device":
        ScriptedEncoder.broken = True
        raise RuntimeError("an illegal memory access was encountered")
    elif what == "raise":
        raise RuntimeError("the kernel failed")
    elif what == "nan" or (what == "nan in company" and not alone):
        vector[:] = np.nan


def _patch(replica: ModuleType) -> None:
    replica.load_replica = load_replica  # type: ignore[attr-defined]


def load_replica(context: "JobContext", _threads: int | None) -> tuple[ScriptedEncoder, Gate]:
    """As the real one: with FAULTS_GATE set it has encoded the gate's texts when it is there."""
    encoder = ScriptedEncoder(context.model.stage().directory)
    if "FAULTS_GATE" in os.environ:
        encoder.measure(context.model.gate_texts)
    return encoder, Gate()


def _patch_reading(prepare: ModuleType) -> None:
    poison = json.loads(os.environ.get("FAULTS_READ", "{}"))
    real = prepare.Preparer.prepare

    def suffering(self: object, rows: pa.Table, uris: object) -> object:
        for text in rows["text"].to_pylist():
            for word, what in poison.items():
                if text is not None and word in text:
                    note(word)
                    suffer(what, np.zeros(1, np.float32), alone=False)
        return real(self, rows, uris)

    if poison:
        prepare.Preparer.prepare = suffering


def _hurry(engine: ModuleType) -> None:
    engine.SORRY_S = 0.1  # type: ignore[attr-defined]


HOOKS = {"pipeline.flow.ray_engine": _hurry, "pipeline.flow.replica": _patch, "pipeline.text.prepare": _patch_reading}
