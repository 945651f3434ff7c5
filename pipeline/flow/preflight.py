"""What a run would cost, before it does: rows, units, tokens and time from footers and a sample. Nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.commit.snapshot import read_stored_spec
from pipeline.encode.placement import choose_placement
from pipeline.errors import RefusedError
from pipeline.flow.job import Job, first_units
from pipeline.flow.planning import Planned
from pipeline.flow.speed import measure_tokens_per_s
from pipeline.flow.summary import Preflight
from pipeline.plan.records import SegmentWork
from pipeline.plan.refuse import check_drop, check_spec
from pipeline.source.records import Segment, SourceUnit
from pipeline.spec import effective_max_tokens, prompt_text
from pipeline.text.tokens import Tokens

ROW_OVERHEAD_BYTES = 64
"""Id, hash, counts of one row in a data file, roughly."""

COMPRESSED = 0.9
"""What zstd and byte-stream splitting leave of float32 vectors."""

INFLATED = 3
"""How many times larger a gzip or zstd file of text is unpacked, roughly."""

CHARS_PER_TOKEN = 20
"""More than texts have on average: so many for each token the model takes are enough to tell that a text is cut."""


@dataclass(slots=True)
class Sample:
    """The first rows of a few pending segments."""

    texts: list[str] = field(default_factory=list)
    line_rows: int = 0  # of line formats, whose rows aren't known before they are read
    line_bytes: float = 0  # of their files, that these rows came from


def estimate(job: Job, planned: Planned) -> Preflight:
    """The plan in numbers."""
    plan, lock = planned.plan, job.model.lock
    config = job.config
    placement = choose_placement(config.model.precision, config.execution.device)
    sample = _sample(job, [work.segment for work in plan.pending])
    max_tokens = effective_max_tokens(config, lock)
    lengths = _token_counts(job, sample.texts, max_tokens)
    all_pending, estimated = _pending_rows(plan.pending, sample)
    rows = all_pending if all_pending is None or job.limit is None else min(all_pending, job.limit)
    pending_bytes = sum(work.bytes for work in plan.pending)
    if rows and all_pending:
        pending_bytes = pending_bytes * rows // all_pending
    tokens = None if rows is None or not len(lengths) else int(rows * np.minimum(lengths, max_tokens).mean())
    kept = sum(unit.rows_out for unit in plan.kept) + sum(unit.rows_out for unit in plan.committed)
    all_rows = None if rows is None else kept + rows
    per_row = int((4 * job.spec.dimensions + ROW_OVERHEAD_BYTES) * COMPRESSED)
    replicas = config.execution.replicas or 1
    speed = measure_tokens_per_s(job, sample.texts, placement) if tokens else None
    messages = _refusals(job, planned, None if estimated else all_rows)
    if lock.declared_max_tokens:
        messages.append(
            f"the model says it takes {lock.declared_max_tokens} tokens, but its position table ends at {lock.max_tokens}: "
            "longer texts are cut there"
        )
    return Preflight(
        output=job.store.root,
        version=planned.version,
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
        pending_bytes=pending_bytes,
        pending_rows=rows,
        pending_tokens=tokens,
        pending_seconds=None if tokens is None or not speed else tokens / speed / replicas,
        replicas=replicas,
        output_bytes=None if all_rows is None else all_rows * per_row,
        truncated_share=float((lengths > max_tokens).mean()) if len(lengths) else None,
        messages=tuple(messages),
    )


def _refusals(job: Job, planned: Planned, rows: int | None) -> list[str]:
    """Why a run without --replace and --allow-drop would be refused. rows: of the next snapshot, where they are known."""
    if planned.head is None:
        return []
    entry, root = planned.head.entry, job.store.root
    lost = planned.plan.gone_rows if rows is None else entry.rows - rows
    refusals = []
    for check in (
        lambda: check_spec(job.spec, entry, read_stored_spec(job.store, entry.spec), replace=False, output=root),
        lambda: check_drop(root, entry, lost, job.spec, allow_drop=False),
    ):
        try:
            check()
        except RefusedError as error:
            refusals.append(f"a run is refused: {error.message}")
    return refusals


def _sample(job: Job, segments: Sequence[Segment]) -> Sample:
    """Whole texts, unlike those of the parity gate: how long they are is the question."""
    sample = Sample()
    for segment, unit in first_units(job, segments):
        sample.texts.extend(text for text in unit.rows["text"].to_pylist() if text)
        if all(piece.measure == "bytes" for piece in segment.pieces):
            sample.line_rows += unit.rows.num_rows
            sample.line_bytes += _consumed(segment, unit)
    return sample


def _consumed(segment: Segment, unit: SourceUnit) -> float:
    """Bytes of the files that the rows of a segment's first unit came from."""
    if unit.eof:
        return sum(piece.stop - piece.start for piece in segment.pieces)
    if all(span.measure == "bytes" for span in unit.spans):
        return sum(span.stop - span.start for span in unit.spans)
    texts = unit.rows["text"].to_pylist()
    plain = sum(len(text.encode()) if text else 0 for text in texts) + len(texts)
    return plain / (INFLATED if segment.pieces[0].file.compression != "none" else 1)


def _token_counts(job: Job, texts: Sequence[str], max_tokens: int) -> npt.NDArray[np.int32]:
    if not texts:
        return np.zeros(0, np.int32)
    prompt, most = prompt_text(job.config, job.model.lock), CHARS_PER_TOKEN * max_tokens
    return Tokens(job.model.directory, max_tokens).encode([prompt + text[:most] for text in texts])[2]


def _pending_rows(pending: Sequence[SegmentWork], sample: Sample) -> tuple[int | None, bool]:
    """Rows left to do, and whether that is an estimate: exact for columnar files, otherwise as dense as in the sample."""
    exact = sum(piece.stop - piece.start for work in pending for piece in work.pieces if piece.measure == "rows")
    others = sum(piece.stop - piece.start for work in pending for piece in work.pieces if piece.measure == "bytes")
    if not others:
        return exact, False
    if not sample.line_rows:
        return None, True
    return exact + round(others * sample.line_rows / sample.line_bytes), True


def _units(pending: Sequence[SegmentWork], rows: int | None, job: Job) -> int:
    by_rows = -(-rows // job.policy.max_rows(job.spec.dimensions)) if rows else 0
    return max(len(pending), by_rows)
