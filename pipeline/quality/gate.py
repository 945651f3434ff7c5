"""The parity gate: before its first unit a replica shows, on the job's own texts, that its vectors are the model's own."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.encode.encoder import Encoder, load_model
from pipeline.encode.memory import free_memory
from pipeline.encode.placement import Device, Placement, Precision, choose_placement
from pipeline.errors import ParityError
from pipeline.model.lock import StagedModel
from pipeline.quality.sample import CONSTRUCTED
from pipeline.text.tokens import Tokens

log = logging.getLogger(__name__)

MIN_COSINE = 0.9999
MAX_RELATIVE_L2 = 1.5e-2
"""About the same strength as the cosine, but this one also sees the vectors' scale."""


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
    def passed(self) -> bool:
        """Whether the vectors are the model's own within the bound."""
        close = self.min_cosine >= MIN_COSINE and self.max_relative_l2 <= MAX_RELATIVE_L2
        return close and self.finite and self.zero_rows_match

    def describe(self) -> str:
        """For people: what was measured, and what was expected."""
        return (
            f"over {self.samples} texts the lowest cosine is {self.min_cosine:.7f} (at least {MIN_COSINE} is expected), the "
            f"largest relative L2 distance {self.max_relative_l2:.1e} (at most {MAX_RELATIVE_L2})"
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
    *,
    texts: Sequence[str],
    prompt: str,
    precision: Precision,
    device: Device,
    max_tokens: int,
    truncate_dim: int | None,
    task: str | None,
    token_budget: int | None,
    threads: int | None,
) -> tuple[Encoder, GateResult]:
    """A replica that has passed, and what it measured. Half precision that fails is replaced by float32.

    Raises ParityError when float32 fails too, ModelError and ConfigError as their makers do.
    """
    placement = choose_placement(precision, device)
    sample = [*CONSTRUCTED, *texts]
    ids, offsets, _ = Tokens(staged.directory, max_tokens).encode([prompt + text for text in sample])
    expected: npt.NDArray[np.float32] | None = None

    while True:
        half = placement.dtype != "float32"
        try:
            encoder = Encoder(
                staged.directory,
                staged.lock,
                placement,
                max_tokens=max_tokens,
                truncate_dim=truncate_dim,
                task=task,
                prompt=prompt,
                token_budget=token_budget,
                threads=threads,
            )
            if expected is None:
                check_tokens(encoder, [prompt + text for text in sample], ids, max_tokens)
                expected = reference_vectors(staged, sample, prompt, placement.device, max_tokens, truncate_dim, task)
            result = compare(encoder.encode(ids, offsets), expected, placement)
        except RuntimeError as error:
            if not half:
                raise
            failure = f"a layer can't compute in it: {error}"
        else:
            if result.passed:
                log.info("%s passed the parity gate on %s in %s (%s): %s", staged.lock.name, placement.device,
                         placement.dtype, placement.reason, result.describe())  # fmt: skip
                return encoder, result
            failure = result.describe()
            del encoder  # its memory is needed for the next one
        if not half:
            raise ParityError(
                f"the vectors of {staged.lock.name} differ from sentence-transformers' own in float32: {failure}. Please "
                "report the model"
            )
        log.warning("%s failed the parity gate, stepping down to float32: %s", placement.dtype, failure)
        placement = Placement(placement.device, "float32", f"{placement.dtype} failed the parity gate")


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
    staged: StagedModel,
    texts: Sequence[str],
    prompt: str,
    device: str,
    max_tokens: int,
    truncate_dim: int | None,
    task: str | None,
) -> npt.NDArray[np.float32]:
    """Plain `SentenceTransformer.encode` in float32: [n, dimensions]. The model is let go afterwards."""
    model = load_model(staged.directory, device)
    model.max_seq_length = max_tokens
    arguments: dict[str, Any] = {"task": task} if task is not None else {}
    vectors = model.encode(
        list(texts),
        prompt=prompt,  # "" too: None would mean the model's default prompt
        truncate_dim=truncate_dim,
        normalize_embeddings=bool(truncate_dim and staged.lock.normalized),
        convert_to_numpy=True,
        show_progress_bar=False,
        **arguments,
    )
    del model
    free_memory()
    return np.asarray(vectors, np.float32)


def compare(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], placement: Placement) -> GateResult:
    """Hold vectors [n, dimensions] against the reference's."""
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
