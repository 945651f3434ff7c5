"""What keeps a snapshot from being published: more of the input without vectors than is allowed, or ids that are no ids."""

from collections.abc import Mapping
from fractions import Fraction

from pipeline.commit.manifest import ManifestUnit
from pipeline.commit.records import UnitRecord
from pipeline.errors import InputError, QuarantineError
from pipeline.flow.job import Job
from pipeline.flow.planning import Planned

SHOWN = 10  # files that a message names


def check_rejected(planned: Planned, failed: Mapping[str, str], allowed: float, output: str) -> None:
    """Judge the next snapshot. `failed`: URI → reason, of files it will be without; `allowed`: the share of the input.

    Raises InputError for files, QuarantineError for rows.
    """
    bound = Fraction(str(allowed))  # 29 of 100 rows are no more than 0.29 of them; as floats they would be
    lost = _lost_share(planned, failed)
    if failed and (lost > bound or allowed == 0):  # an empty file has nothing to lose
        shown = "\n".join(f"{uri}: {reason}" for uri, reason in sorted(failed.items())[:SHOWN])
        raise InputError(
            f"{len(failed)} of {len(planned.files)} input files can't be read, or hold rows that are refused; they are "
            f"{float(lost):.1%} of the input's bytes or of the published rows, and output.max_rejected_share allows "
            f"{allowed:.1%}. Nothing new is published; the other files' work is committed and is not redone.\n{shown}"
        )
    units: list[ManifestUnit | UnitRecord] = [*planned.plan.kept, *planned.plan.committed]
    rows, aside = sum(unit.rows_in for unit in units), sum(unit.rows_quarantined for unit in units)
    if aside > bound * rows:
        raise QuarantineError(
            f"{aside:,} of {rows:,} rows ({aside / rows:.1%}) can't be embedded, and output.max_rejected_share allows "
            f"{allowed:.1%}. Nothing new is published. `embedpipe quarantine list {output}` shows them with their reasons; "
            "mend the source, or allow a larger share"
        )


def check_limited(failed: Mapping[str, str]) -> None:
    """The same for a run with `--limit`, whose rows come from one file after the other. Raises InputError."""
    for uri, reason in failed.items():
        raise InputError(
            f"{uri}: {reason}. A run with --limit reads the files one after the other and ends at the first that can't be "
            "read; leave it out of input.paths, or run without --limit. Nothing new is published"
        )


def check_duplicates(duplicates: int | None, job: Job) -> None:
    """Ids that are there twice over the whole of the next snapshot; None: nobody has counted. Raises InputError where that is
    asked for, and for ids that this program itself has named."""
    if duplicates and job.extraction.id is None:
        raise InputError(
            f"{duplicates:,} rows would have the id of a row of another file: without input.id they are named by their file's "
            "path below the input's root, which is not what it was when earlier files were read. Nothing new is published; set "
            "input.root to a folder above all files of all days, or name a column in input.id"
        )
    if duplicates and job.config.rows.duplicate_id == "refuse":
        raise InputError(
            f"{duplicates:,} rows have an id in {job.extraction.id!r} that another row has, and rows.duplicate_id is refuse. "
            "Nothing new is published; mend the source, or set it to keep"
        )


def _lost_share(planned: Planned, failed: Mapping[str, str]) -> Fraction:
    """By bytes, or by the rows that were published before if that is more: a file that was overwritten and cut off has hardly
    a byte left."""
    plan = planned.plan
    of_bytes = Fraction(sum(segment.bytes for segment in plan.pending), max(1, planned.input_bytes))
    rows = sum(unit.rows_in for unit in plan.dropped if any(piece.uri in failed for piece in unit.pieces))
    published = planned.head.entry.rows_in if planned.head else 0
    return max(of_bytes, Fraction(rows, max(1, published)))
