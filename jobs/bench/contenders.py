"""Who takes part, and how each is run: as a process, in a virtual environment of its own where it needs other packages."""

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from jobs.figures.common import PROJECT
from pipeline.encode.placement import native_bfloat16

PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = PROJECT / ".bench"
TORCH = "torch>=2.13,<2.14"
SENTENCE_TRANSFORMERS = "sentence-transformers>=5"
SIZES = (8, 16, 32, 64, 128)
UNIT_TEXTS = 4096
"""That the engine is given at a time: fewer than in a job, so that each mix has some units of them."""

ANSWER_S, END_S = 3600.0, 30.0
"""After that a contender counts as hanging."""


class PeerError(Exception):
    """A contender can't take part."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to get vectors of texts."""

    name: str
    script: str  # in peers/
    settings: Mapping[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()  # for pip; (): this environment serves


EXACT = Contender("embedpipe, `exact`", "engine.py", {"precision": "exact"})
GATED = Contender("embedpipe, `gated`", "engine.py", {"precision": "gated"})
DEFAULT = Contender(
    "sentence-transformers, default", "sentence_transformers_encode.py",
    {"backend": "torch", "variants": [(32, "float32")]},
)  # fmt: skip
FORMATS = {
    "cpu": ("float32", "bfloat16") if native_bfloat16() else ("float32",),  # emulated it is some hundred times slower
    "cuda": ("float32", "float16", "bfloat16"),
}
"""Number formats worth trying, by device."""

TUNED = Contender(
    "sentence-transformers, best setting", "sentence_transformers_encode.py",
    {"backend": "torch", "variants": [(size, dtype) for size in SIZES for dtype in FORMATS["cpu"]]},
)  # fmt: skip
TUNED_GPU = Contender(
    TUNED.name, TUNED.script,
    {"backend": "torch", "variants": [(size, dtype) for size in (128, 512, 2048) for dtype in ("float16", "bfloat16")]},
)  # fmt: skip
DAFT = Contender("Daft `embed_text`", "daft_embed_text.py", {}, ("daft>=0.7", SENTENCE_TRANSFORMERS, TORCH))
ONNX = Contender(
    "ONNX Runtime", "sentence_transformers_encode.py",
    {"backend": "onnx", "variants": [(size, "float32") for size in SIZES]}, ("sentence-transformers[onnx]>=5", TORCH),
)  # fmt: skip
OPENVINO, OPENVINO_BF16 = (
    Contender(
        f"OpenVINO, {dtype}", "sentence_transformers_encode.py",
        {"backend": "openvino", "variants": [(size, dtype) for size in SIZES]},
        ("sentence-transformers[openvino]>=5", TORCH),
    )
    for dtype in ("float32", "bfloat16")
)  # fmt: skip
BUDGETS = tuple(
    Contender(f"`gated`, {budget:,} tokens a batch", "engine.py", {"precision": "gated", "token_budget": budget})
    for budget in (1024, 2048, 8192, 16_384)
)
REPLICAS = tuple(
    Contender(f"`gated`, {count} replicas", "replicas.py", {"precision": "gated", "replicas": count})
    for count in (2, 4)
)
"""That share the cores, so with fewer threads each."""

GATED_COMPILED = Contender("embedpipe, `gated`, compiled", "engine.py", {"precision": "gated", "compiled": True})
"""As a job on a GPU runs when it has lasted a while."""

ON_GPU = (DEFAULT, TUNED_GPU, GATED, GATED_COMPILED)
DECODERS_ON_GPU = (DEFAULT, TUNED_GPU, GATED)
"""Layers that aren't built like BERT's are not compiled."""

ALL = (DEFAULT, TUNED, DAFT, ONNX, OPENVINO, OPENVINO_BF16, EXACT, GATED)


class Running:
    """A contender that has loaded its model and waits to be told to encode. A context manager."""

    def __init__(self, contender: Contender, folder: Path, settings: Mapping[str, Any]) -> None:
        """settings: those of the round, for every contender. Raises PeerError."""
        self.contender = contender
        self._folder = folder
        folder.mkdir(parents=True)
        file = folder / "settings.json"
        file.write_text(json.dumps({**settings, **contender.settings}), encoding="utf-8")
        python = interpreter(contender.requirements)
        self._err = (folder / "err.txt").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [python, str(PEERS / contender.script), str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._err, text=True,
            env={**os.environ, **_environment(contender, int(settings["threads"]))},
        )  # fmt: skip
        try:
            self.told = self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._err.close()

    def encode(self) -> float:
        """Encode all texts once; the seconds it took. Raises PeerError."""
        return float(self._ask("go")["seconds"])

    def vectors(self) -> npt.NDArray[np.float32]:
        """What the last time gave: [n, dimensions]. Raises PeerError."""
        file = self._folder / "vectors.npy"
        self._ask(f"save {file}")
        found: npt.NDArray[np.float32] = np.load(file)
        return found

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer says why
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], ANSWER_S)[0]:
            raise PeerError(f"no answer within {ANSWER_S:,.0f} s")
        line = self._process.stdout.readline()
        if not line:
            self._err.seek(0)
            said = self._err.read().strip().splitlines() or ["nothing was said"]
            raise PeerError(said[-1])
        answer: dict[str, Any] = json.loads(line)
        return answer


def round_settings(
    folder: Path,
    model: str,
    texts: Sequence[str],
    max_tokens: int,
    device: str = "cpu",
    unit_texts: int = UNIT_TEXTS,
) -> dict[str, Any]:
    """What every contender is told: the texts, written to the folder, the model, where texts are cut, the device, how many
    texts the engine is given at a time, all cores."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    return {
        "texts": str(file),
        "model": model,
        "max_tokens": max_tokens,
        "device": device,
        "unit_texts": unit_texts,
        "threads": len(os.sched_getaffinity(0)),
    }


def interpreter(requirements: tuple[str, ...]) -> str:
    """A Python that has these packages, in an environment of their own, made when it is first asked for. Raises PeerError."""
    if not requirements:
        return sys.executable
    name = hashlib.sha256(json.dumps([sys.version, requirements]).encode()).hexdigest()[:12]
    folder = ENVIRONMENTS / name
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if not done.exists():
        venv.create(folder, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        installed = subprocess.run(install, capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            said = installed.stderr.strip().splitlines() or ["nothing was said"]
            raise PeerError(f"pip can't install it: {said[-1]}")
        done.write_text("\n".join(requirements), encoding="utf-8")
    return str(python)


def _environment(contender: Contender, threads: int) -> dict[str, str]:
    ours = {} if contender.requirements else {"PYTHONPATH": str(PROJECT)}
    return {**ours, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
