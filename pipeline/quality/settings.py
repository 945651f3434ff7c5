"""What cheaper settings cost in quality: recall of neighbours against the model's own float32 vectors, bytes and time.

No labels are needed: the texts are the user's own, and what the model finds near with all it has is the truth.
"""

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sentence_transformers.util import quantize_embeddings

from pipeline.encode.encoder import Encoder
from pipeline.encode.memory import free_memory
from pipeline.encode.placement import Device, Precision, choose_placement
from pipeline.encode.settings import EncoderSettings
from pipeline.errors import EncodeError
from pipeline.model.lock import StagedModel
from pipeline.quality.gate import load_gated
from pipeline.quality.neighbours import Neighbours, read_similarity
from pipeline.text.tokens import Tokens

log = logging.getLogger(__name__)

FEWEST_TEXTS = 100
"""With fewer, ten neighbours are a large share of all there are, and any setting finds them."""

MILLION = 1_000_000
WARM_UP_TEXTS = 16
CHUNK_TEXTS = 2048
"""Encoded in one go: enough to sort by length, and a few minutes of a slow machine at most."""

LEAST_S, MOST_TIMES = 1.0, 25
"""A setting is timed until so many seconds are spent on it, but not more often than that: one pass over a small sample takes a
few hundredths of a second, whatever else the machine does in them."""

BLIND = 0.25
"""From this recall on of texts taken blindly nothing is compared: half the texts have one vector, or all have nearly that."""

THIS_CONFIG = "this config"

SHORTER = (2, 4, 8)
"""Parts of the dimensions that are tried, and (but the last) of the longest length."""


@dataclass(frozen=True, slots=True)
class Replica:
    """What is to be encoded with: a model, on a device."""

    staged: StagedModel
    device: Device
    threads: int | None  # of the CPU; None: torch's own choice


@dataclass(frozen=True, slots=True)
class Compared:
    """One setting."""

    name: str  # for people
    config: str  # what to set for it, as for `--set`; "" for what is done with the vectors later
    recall: float  # of ten neighbours, against float32; 1.0 is all of them
    bytes_per_million: int  # rows' vectors, without compression
    seconds_per_million: float  # to encode rows like the sample's, tokens given, by one replica on this machine
    dimensions: int
    max_tokens: int
    dtype: str  # it was computed in


@dataclass(frozen=True, slots=True)
class Comparison:
    """All settings, the model's own float32 vectors first."""

    model: str
    weights: str  # sha256 over the model's weights
    similarity: str
    device: str
    texts: int
    dimensions: int
    max_tokens: int
    prompt: str  # before every text
    task: str | None  # the way of the texts through a model that has several
    chance: float  # recall of texts taken blindly
    settings: tuple[Compared, ...]
    notes: tuple[str, ...]  # what was not tried, and why

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Encoded:
    vectors: npt.NDArray[np.float32]
    seconds: float  # the median, where it was timed
    dtype: str
    max_tokens: int
    lengths: npt.NDArray[np.int32]  # tokens of the texts, before they were cut

    def per_million(self) -> float:
        return self.seconds / len(self.vectors) * MILLION


def compare_settings(
    replica: Replica, wanted: EncoderSettings, precision: Precision, texts: Sequence[str]
) -> Comparison:
    """Encode `texts` (distinct, at least `FEWEST_TEXTS`) with the model's own settings and with cheaper ones.

    wanted, precision: what the user's config asks for; it is compared too, where it isn't the model's own already.
    Raises EncodeError for too few texts, or none that the model has vectors for, and as `load_gated` does.
    """
    lock = replica.staged.lock
    own = _own(replica, wanted)
    truth = _encode(replica, own, "exact", texts, timed=True)
    reference = _reference(truth, replica)

    def compared(name: str, config: str, encoded: _Encoded, vectors: npt.NDArray[np.float32], size: float) -> Compared:
        return Compared(
            name,
            config,
            reference.recall(vectors),
            round(size * MILLION),
            encoded.per_million(),
            vectors.shape[1],
            encoded.max_tokens,
            encoded.dtype,
        )

    dimensions = truth.vectors.shape[1]
    notes: list[str] = []
    settings = [compared("float32, the model's own", "model.precision=exact", truth, truth.vectors, 4 * dimensions)]
    for name, config, changed, how in _cheaper(replica, own, wanted, precision, truth, notes):
        encoded = _encode(replica, changed, how, texts, timed=True)
        size = 4 * encoded.vectors.shape[1]
        settings.append(compared(name.replace("half precision", encoded.dtype), config, encoded, encoded.vectors, size))
    for dims in _fewer(dimensions, wanted.truncate_dim):
        vectors = _cut(truth.vectors, dims, normalized=lock.normalized)
        settings.append(compared(f"{dims} dimensions", f"model.truncate_dim={dims}", truth, vectors, 4 * dims))
    for name, vectors, size in _stored(truth.vectors, reference.sound, notes):
        settings.append(compared(name, "", truth, vectors, size))
    return Comparison(
        lock.name,
        lock.weights_hash,
        reference.similarity,
        choose_placement("exact", replica.device).device,
        int(reference.sound.sum()),
        dimensions,
        own.max_tokens,
        own.prompt,
        own.task,
        reference.neighbours.chance(),
        tuple(settings),
        tuple(notes),
    )


def measure_recall(
    replica: Replica,
    wanted: EncoderSettings,
    precision: Precision,
    texts: Sequence[str],
    progress: Callable[[], None] = lambda: None,
) -> float:
    """Recall of what a config asks for, as this machine computes it. Raises as `compare_settings` does.

    progress: called after every few texts.
    """
    own = _own(replica, wanted)
    if wanted == own and choose_placement(precision, replica.device).dtype == "float32":
        return 1.0
    reference = _reference(_encode(replica, own, "exact", texts, progress), replica)
    return reference.recall(_encode(replica, wanted, precision, texts, progress).vectors)


def _own(replica: Replica, wanted: EncoderSettings) -> EncoderSettings:
    """The model's own length and dimensions; prompt and route are part of what is asked."""
    return replace(wanted, max_tokens=replica.staged.lock.max_tokens, truncate_dim=None)


@dataclass(frozen=True, slots=True)
class _Reference:
    """What the model's own vectors say."""

    sound: npt.NDArray[np.bool_]  # which texts have a vector to compare with
    similarity: str
    neighbours: Neighbours  # of these texts

    def recall(self, vectors: npt.NDArray[np.float32]) -> float:
        """Of other vectors of all texts."""
        return self.neighbours.recall(np.nan_to_num(vectors[self.sound]))


def _reference(truth: _Encoded, replica: Replica) -> _Reference:
    """Raises EncodeError for too few texts, or too many that are all the same to the model."""
    sound: npt.NDArray[np.bool_] = np.asarray(np.isfinite(truth.vectors).all(axis=1))
    texts = int(sound.sum())
    if texts < FEWEST_TEXTS:
        raise EncodeError(
            f"there are {texts} distinct texts with vectors to compare; at least {FEWEST_TEXTS} are needed for neighbours to "
            "mean anything"
        )
    similarity = read_similarity(replica.staged.directory)
    neighbours = Neighbours(truth.vectors[sound], similarity)
    if (chance := neighbours.chance()) >= BLIND:
        raise EncodeError(
            f"the model tells the {texts:,} texts too little apart to compare anything by it: of their ten nearest neighbours "
            f"texts taken blindly are {chance:.0%}, as so many have the same vector; below {BLIND:.0%} is needed. Look at the "
            "model and its prompt"
        )
    return _Reference(sound, similarity, neighbours)


def _cheaper(
    replica: Replica,
    own: EncoderSettings,
    wanted: EncoderSettings,
    precision: Precision,
    truth: _Encoded,
    notes: list[str],
) -> Iterator[tuple[str, str, EncoderSettings, Precision]]:
    """Settings that have to be encoded with anew: name, config, and how. What isn't worth trying goes to `notes`."""
    half = choose_placement("gated", replica.device)
    if half.dtype == "float32":
        notes.append(f"half precision: {half.reason}")
    else:
        yield "half precision", "model.precision=gated", own, "gated"
    longest = int(truth.lengths.max(initial=0))
    for part in SHORTER[:-1]:
        tokens = own.max_tokens // part
        if longest > tokens:
            yield f"{tokens} tokens", f"model.max_tokens={tokens}", replace(own, max_tokens=tokens), "exact"
        else:
            notes.append(f"{tokens} tokens: no text of the sample is longer (the longest has {longest})")
    if wanted != own or precision != "exact":
        asked = {"model.precision": precision, "model.max_tokens": wanted.max_tokens}
        if wanted.truncate_dim is not None:
            asked["model.truncate_dim"] = wanted.truncate_dim
        config = " ".join(f"{key}={value}" for key, value in asked.items())
        yield THIS_CONFIG, config, wanted, precision


def _fewer(dimensions: int, wanted: int | None) -> list[int]:
    tried = {dimensions // part for part in SHORTER} | ({wanted} if wanted is not None else set())
    return sorted((dims for dims in tried if 0 < dims < dimensions), reverse=True)


def _stored(
    vectors: npt.NDArray[np.float32], sound: npt.NDArray[np.bool_], notes: list[str]
) -> Iterator[tuple[str, npt.NDArray[np.float32], float]]:
    """What a vector index may keep of float32 vectors: name, the vectors as they come back from it, bytes of one. What can't be
    kept so goes to `notes`."""
    dimensions, largest = vectors.shape[1], float(np.finfo(np.float16).max)
    usual = vectors[sound]
    beyond = int((np.abs(usual) > largest).any(axis=1).sum())
    if beyond:
        notes.append(f"float16 in the index: {beyond:,} texts have values beyond {largest:,.0f}, its largest number")
    else:
        with np.errstate(over="ignore"):  # of vectors that aren't compared
            yield "float16 in the index", vectors.astype(np.float16).astype(np.float32), 2 * dimensions
    # Ranges of the very vectors that are kept, as an index has that is made when all are there.
    low, high = usual.min(axis=0), usual.max(axis=0)
    steps = np.where(high > low, (high - low) / 255, np.float32(1))  # a value that all have is kept as it is
    codes = quantize_embeddings(usual, precision="uint8", ranges=np.vstack((low, low + 255 * steps)))
    middles = np.zeros_like(vectors)  # a code stands for what lies between two of them, and so for its middle
    middles[sound] = np.where(high > low, (np.asarray(codes, np.float32) + np.float32(0.5)) * steps + low, low)
    yield "int8 in the index", middles, dimensions
    bits = np.where(vectors > 0, np.float32(1), np.float32(-1))
    yield "binary in the index", bits, -(-dimensions // 8)


def _cut(vectors: npt.NDArray[np.float32], dimensions: int, *, normalized: bool) -> npt.NDArray[np.float32]:
    """As `model.truncate_dim` does."""
    shorter = vectors[:, :dimensions]
    if not normalized:
        return np.ascontiguousarray(shorter)
    length = np.linalg.norm(shorter, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = shorter / np.maximum(length, np.float32(1e-12))
    return unit


def _encode(
    replica: Replica,
    settings: EncoderSettings,
    precision: Precision,
    texts: Sequence[str],
    progress: Callable[[], None] = lambda: None,
    *,
    timed: bool = False,
) -> _Encoded:
    """Vectors; `timed`: encoded again and again, see `LEAST_S`."""
    staged = replica.staged
    encoder, result = load_gated(
        staged, settings, texts=(), precision=precision, device=replica.device, threads=replica.threads
    )
    ids, offsets, lengths = Tokens(staged.directory, settings.max_tokens).encode(
        [settings.prompt + text for text in texts]
    )
    some = min(WARM_UP_TEXTS, len(texts))
    encoder.encode(ids[: offsets[some]], offsets[: some + 1])
    seconds: list[float] = []
    while not seconds or (timed and sum(seconds) < LEAST_S and len(seconds) < MOST_TIMES):
        began = time.perf_counter()
        vectors = _vectors(encoder, ids, offsets, progress)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    log.info(
        "%d texts in %.2f s, the median of %d (%s, %d tokens at most)",
        len(texts), median, len(seconds), result.dtype, settings.max_tokens,
    )  # fmt: skip
    del encoder
    free_memory()
    return _Encoded(vectors, median, result.dtype, settings.max_tokens, lengths)


def _vectors(
    encoder: Encoder, ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], progress: Callable[[], None]
) -> npt.NDArray[np.float32]:
    """Of all texts [n, dimensions], a chunk at a time."""
    parts = []
    for first in range(0, len(offsets) - 1, CHUNK_TEXTS):
        bounds = offsets[first : first + CHUNK_TEXTS + 1]
        parts.append(encoder.encode(ids[bounds[0] : bounds[-1]], bounds - bounds[0]))
        progress()
    return np.concatenate(parts)
