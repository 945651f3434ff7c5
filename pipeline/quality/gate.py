"""The parity gate: before its first unit a replica shows, on the job's own texts, that its vectors are the model's own."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.encode.blame import blamed_on_model
from pipeline.encode.encoder import Encoder, load_model
from pipeline.encode.memory import free_memory
from pipeline.encode.placement import Device, Placement, Precision, Way, choose_placement
from pipeline.encode.settings import EncoderSettings
from pipeline.errors import EmbedpipeError, ModelError, ParityError, first_line
from pipeline.model.lock import StagedModel
from pipeline.model.modules import find_route
from pipeline.quality.sample import CONSTRUCTED
from pipeline.text.tokens import Tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What passes. Both are of about the same strength, but the second one also sees the vectors' scale."""

    min_cosine: float
    max_relative_l2: float


HALF, EXACT = Bounds(0.9999, 1.5e-2), Bounds(0.999999, 1e-4)


@dataclass(frozen=True, slots=True)
class GateResult:
    """What was measured."""

    samples: int
    min_cosine: float
    max_relative_l2: float
    finite: bool
    zero_rows_match: bool
    device: str
    dtype: str
    reason: str  # why this device and dtype

    @property
    def bounds(self) -> Bounds:
        """For its number format."""
        return EXACT if self.dtype == "float32" else HALF

    @property
    def passed(self) -> bool:
        """Whether the vectors are the model's own within the bounds."""
        bounds = self.bounds
        close = self.min_cosine >= bounds.min_cosine and self.max_relative_l2 <= bounds.max_relative_l2
        return close and self.finite and self.zero_rows_match

    def describe(self) -> str:
        """For people: what was measured, and what was expected."""
        return (
            f"over {self.samples} texts the lowest cosine is {self.min_cosine:.7f} (at least {self.bounds.min_cosine} is "
            f"expected), the largest relative L2 distance {self.max_relative_l2:.1e} (at most {self.bounds.max_relative_l2})"
            + ("" if self.finite else ", some vectors hold NaN or infinity")
            + ("" if self.zero_rows_match else ", other vectors are zero than should be")
        )

    def to_json(self) -> dict[str, object]:
        """For records: numbers as text, whose bytes are stable."""
        return {
            "samples": self.samples,
            "min_cosine": f"{self.min_cosine:.7f}",
            "max_relative_l2": f"{self.max_relative_l2:.2e}",
            "device": self.device,
            "dtype": self.dtype,
            "reason": self.reason,
        }


def load_gated(
    staged: StagedModel,
    settings: EncoderSettings,
    *,
    texts: Sequence[str],
    precision: Precision,
    device: Device,
    threads: int | None = None,
    at_most: Way | None = None,
) -> tuple[Encoder, GateResult]:
    """A replica that has passed, and what it measured. Where the fast way fails the plain one is tried, and after half
    precision float32. at_most: with this one it begins, since those before it have failed over other texts.

    Raises ParityError when float32 fails too, ModelError for a model that can't be loaded, or fails over any text, and
    ConfigError as its maker does. What this machine is to blame for is raised as it comes.
    """
    find_route(Path(staged.directory), settings.task)  # raises for a task the model doesn't know
    try:
        return _load(staged, settings, texts, _ways(choose_placement(precision, device), at_most), threads)
    except EmbedpipeError:
        raise
    except (
        Exception
    ) as error:  # whatever a model makes of a text it can't take; which one it is shows when it is encoded
        if not texts:
            raise
        failure = first_line(error)
    free_memory()
    loaded = _load(staged, settings, (), _ways(choose_placement(precision, device), at_most), threads)
    log.warning(  # only now is it known that it isn't the model that fails over everything
        "the parity gate is measured on constructed texts alone: with the job's own the model fails (%s)", failure
    )
    return loaded


def _load(
    staged: StagedModel,
    settings: EncoderSettings,
    texts: Sequence[str],
    ways: Sequence[tuple[Placement, bool]],
    threads: int | None,
) -> tuple[Encoder, GateResult]:
    sample = [*CONSTRUCTED, *texts]
    prompted = [settings.prompt + text for text in sample]
    ids, offsets, _ = Tokens(staged.directory, settings.max_tokens).encode(prompted)
    # Before there is a replica: there may be no room for two.
    with nullcontext() if texts else blamed_on_model(staged.directory, "can't embed a plain text"):
        expected = reference_vectors(staged, settings, sample, ways[0][0].device)

    def measure(place: Placement, fast: bool) -> tuple[Encoder, GateResult]:
        encoder = Encoder(
            staged.directory,
            staged.lock,
            place,
            settings,
            threads=threads,
            fast=fast,
        )
        check_tokens(encoder, prompted, ids, settings.max_tokens)
        return encoder, compare(encoder.encode(ids, offsets), expected, place)

    failure, plain = "", None
    for place, fast in ways:
        if place == plain:
            continue  # the fast way was the plain one already
        if failure:
            log.warning("stepping down to %s%s: %s", place.dtype, "" if fast else ", the plain way", failure)
            free_memory()
        try:
            encoder, result = measure(place, fast)
        except RuntimeError as error:
            if place.dtype == "float32":
                raise
            failure = f"{place.dtype}: a layer can't compute in it: {error}"
            continue
        if result.passed:
            log.info("%s passed the parity gate on %s in %s (%s): %s", staged.lock.name, place.device, place.dtype,
                     place.reason, result.describe())  # fmt: skip
            return encoder, result
        failure = f"{place.dtype} failed the parity gate: {result.describe()}"
        plain = None if encoder.fast else place
        del encoder  # its memory is needed for the next one
    raise ParityError(
        f"the vectors of {staged.lock.name} differ from sentence-transformers' own: {failure}. Please report the model"
    )


def _ways(placement: Placement, at_most: Way | None) -> list[tuple[Placement, bool]]:
    """Placements in the order they are tried, each the fast way and then the plain one; from `at_most` on, if that is one."""
    places = [placement]
    if placement.dtype != "float32":
        places.append(Placement(placement.device, "float32", f"{placement.dtype} failed the parity gate"))
    ways = [(place, fast) for place in places for fast in (True, False)]
    known = [Way(place.dtype, fast) for place, fast in ways]
    return ways[known.index(at_most) :] if at_most in known else ways


def check_tokens(encoder: Encoder, texts: Sequence[str], ids: npt.NDArray[np.int32], max_tokens: int) -> None:
    """Raises ParityError when sentence-transformers would feed the model other token ids than these [T]."""
    own = encoder.tokenizer(list(texts), truncation="longest_first", max_length=max_tokens)["input_ids"]
    expected = np.concatenate([np.asarray(row, np.int32) for row in own])
    if not np.array_equal(expected, ids):
        raise ParityError(
            f"the tokenizer gives {len(ids)} ids for {len(texts)} texts where sentence-transformers has {len(expected)}, or "
            "others; its tokenizer.json says something else than its class. Please report the model"
        )


def reference_vectors(
    staged: StagedModel, settings: EncoderSettings, texts: Sequence[str], device: str
) -> npt.NDArray[np.float32]:
    """Plain `SentenceTransformer.encode` in float32: [n, dimensions]. The model is let go afterwards.

    Raises ModelError where the model can't be loaded, or its vectors have another length than its files say.
    """
    model = load_model(staged.directory, device)
    model.max_seq_length = settings.max_tokens
    arguments: dict[str, Any] = {"task": settings.task} if settings.task is not None else {}
    vectors = model.encode(
        list(texts),
        prompt=settings.prompt,  # "" too: None would mean the model's default prompt
        truncate_dim=settings.truncate_dim,
        normalize_embeddings=bool(settings.truncate_dim and staged.lock.normalized),
        convert_to_numpy=True,
        show_progress_bar=False,
        **arguments,
    )
    del model
    free_memory()
    dimensions = min(staged.lock.dimensions, settings.truncate_dim or staged.lock.dimensions)
    if vectors.shape[1:] != (dimensions,):
        raise ModelError(
            f"{staged.directory}: the model gives vectors of {vectors.shape[-1]} dimensions, where its files say {dimensions} "
            "(hidden_size, embedding_dimension, out_features); mend the config.json that is wrong, or fetch the model again"
        )
    return np.asarray(vectors, np.float32)


def compare(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], placement: Placement) -> GateResult:
    """Hold vectors [n, dimensions] against the reference's. A text that the model has no finite vector for in float32 either says
    nothing about this replica; its rows will be set aside."""
    own = np.isfinite(expected).all(axis=1)
    if own.any():
        found, expected = found[own], expected[own]
    finite = bool(np.isfinite(found).all())
    length = np.linalg.norm(expected.astype(np.float64), axis=1)
    own = np.linalg.norm(found.astype(np.float64), axis=1)
    zero = length == 0.0  # a ReLU at the end can give exact zeros, whose cosine is undefined
    some = ~zero & (own > 0)
    dots = np.einsum("nd,nd->n", found[some].astype(np.float64), expected[some].astype(np.float64))
    with np.errstate(invalid="ignore"):  # infinity by infinity is NaN, which passes no bound
        cosines = dots / (length[some] * own[some])
        distance = np.linalg.norm(found[~zero].astype(np.float64) - expected[~zero], axis=1) / length[~zero]
    return GateResult(
        samples=len(found),
        min_cosine=float(cosines.min(initial=1.0)),
        max_relative_l2=float(distance.max(initial=0.0)),
        finite=finite,
        zero_rows_match=bool(np.array_equal(zero, own == 0.0)),
        device=placement.device,
        dtype=placement.dtype,
        reason=placement.reason,
    )
