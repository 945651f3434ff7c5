"""What a run would cost, before it does: rows, units and tokens from footers and a sample. Nothing is written."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.commit.snapshot import Snapshot
from pipeline.encode.placement import choose_placement
from pipeline.flow.job import Job, sample_texts
from pipeline.flow.planning import Planned
from pipeline.flow.summary import Preflight
from pipeline.plan.records import SegmentWork
from pipeline.spec import effective_max_tokens, prompt_text
from pipeline.text.tokens import Tokens

ROW_OVERHEAD_BYTES = 64
"""Id, hash, counts of one row in a data file, roughly."""

COMPRESSED = 0.9
"""What zstd and byte-stream splitting leave of float32 vectors."""


def estimate(job: Job, planned: Planned) -> Preflight:
    """The plan in numbers."""
    plan, lock = planned.plan, job.model.lock
    config = job.config
    placement = choose_placement(config.model.precision, config.execution.device)
    texts = sample_texts(job, [work.segment for work in plan.pending])
    max_tokens = effective_max_tokens(config, lock)
    lengths = _token_counts(job, texts, max_tokens)
    rows, estimated = _pending_rows(plan.pending, texts)
    kept = sum(unit.rows_out for unit in plan.kept) + sum(unit.rows_out for unit in plan.committed)
    all_rows = None if rows is None else kept + rows
    per_row = int((4 * job.spec.dimensions + ROW_OVERHEAD_BYTES) * COMPRESSED)
    messages = []
    if lock.declared_max_tokens:
        messages.append(
            f"the model says it takes {lock.declared_max_tokens} tokens, but its position table ends at {lock.max_tokens}: "
            "longer texts are cut there"
        )
    return Preflight(
        output=job.store.root,
        version=_version(planned.head),
        replaces=not planned.same_spec,
        model=lock.name,
        dimensions=job.spec.dimensions,
        max_tokens=max_tokens,
        device=placement.device,
        dtype=placement.dtype,
        device_reason=placement.reason,
        input_files=len(planned.files),
        input_bytes=planned.input_bytes,
        rows=all_rows,
        rows_estimated=estimated,
        files_covered=plan.covered_files,
        units_covered=len(plan.kept),
        units_committed=len(plan.committed),
        units_pending=_units(plan.pending, rows, job),
        rows_dropped=plan.gone_rows,
        pending_bytes=sum(work.bytes for work in plan.pending),
        pending_rows=rows,
        pending_tokens=None if rows is None or not len(lengths) else int(rows * np.minimum(lengths, max_tokens).mean()),
        output_bytes=None if all_rows is None else all_rows * per_row,
        truncated_share=float((lengths > max_tokens).mean()) if len(lengths) else None,
        messages=tuple(messages),
    )


def _token_counts(job: Job, texts: Sequence[str], max_tokens: int) -> npt.NDArray[np.int32]:
    if not texts:
        return np.zeros(0, np.int32)
    prompt = prompt_text(job.config, job.model.lock)
    return Tokens(job.model.directory, max_tokens).encode([prompt + text for text in texts])[2]


def _pending_rows(pending: Sequence[SegmentWork], texts: Sequence[str]) -> tuple[int | None, bool]:
    """Rows left to do, exact for columnar files, otherwise from the mean length of the sampled texts."""
    exact = sum(piece.stop - piece.start for work in pending for piece in work.pieces if piece.measure == "rows")
    others = sum(piece.stop - piece.start for work in pending for piece in work.pieces if piece.measure == "bytes")
    if not others:
        return exact, False
    if not texts:
        return None, True
    return exact + int(others / (sum(len(text.encode()) for text in texts) / len(texts) + 1)), True


def _units(pending: Sequence[SegmentWork], rows: int | None, job: Job) -> int:
    by_rows = -(-rows // job.policy.max_rows(job.spec.dimensions)) if rows else 0
    return max(len(pending), by_rows)


def _version(head: Snapshot | None) -> int:
    return head.entry.version if head else 0
