"""What a plan refuses: mixing specs, publishing a limited run over a full one, losing rows by accident."""

from pipeline.commit.records import LogEntry
from pipeline.errors import RefusedError
from pipeline.spec import Spec

MAX_DROP_SHARE = 0.1


def check_spec(spec: Spec, head: LogEntry | None, published: Spec, *, replace: bool, output: str) -> bool:
    """Whether the head, of the spec `published`, stays the base of the next snapshot. False: the next one replaces it as a
    whole.

    Raises RefusedError when the output holds another spec and nobody asked for a replacement.
    """
    if head is None or head.spec == spec.spec_id:
        return True
    if spec.limit is not None and head.limit is None:
        raise RefusedError(
            f"{output} holds a full snapshot (version {head.version}, {head.rows:,} rows); a run with --limit never "
            "publishes over one. Write the limited run to another output.path"
        )
    if replace or (head.limit is not None and spec.same_but_for_limit(published)):
        return False
    raise RefusedError(
        f"{output} holds another spec (version {head.version}): {_difference(spec, published)}. One output holds one "
        "spec. Use another output.path, or --replace to publish this one in its place once it is complete"
    )


def check_drop(output: str, head: LogEntry | None, lost_rows: int, spec: Spec, *, allow_drop: bool) -> None:
    """Raises RefusedError when the next snapshot, of this spec, would lack more than 10% of the head's rows. What was a
    limited try may be replaced by a smaller one."""
    if head is None or allow_drop or lost_rows <= head.rows * MAX_DROP_SHARE:
        return
    if head.spec != spec.spec_id and head.limit is not None:
        return
    raise RefusedError(
        f"{output}: the next snapshot would lack {lost_rows:,} of the {head.rows:,} rows of version {head.version} "
        f"({lost_rows / head.rows:.0%}, the limit is {MAX_DROP_SHARE:.0%}) because input files are gone or have fewer "
        "rows. Check input.paths; if it is meant, run again with --allow-drop, or use output.mode=append to keep them"
    )


def _difference(spec: Spec, other: Spec) -> str:
    """The first settings in which two specs differ, in words."""
    found: list[str] = []
    for mine, theirs in ((spec.recipe, other.recipe), (spec.layout, other.layout)):
        found.extend(key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key))
    if spec.limit != other.limit:
        found.append("limit")
    return "different " + ", ".join(found)
