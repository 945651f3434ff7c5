"""What a command that ended well has done, whatever went on beside it: what its user relies on who looks at the exit code alone.

Judged at the moment it ends, from the true state of the store and the source.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from faults.simulation.judge import TruthJudge
from faults.simulation.snapshots import Published
from faults.simulation.source import Source


def wrong_with_run(judge: TruthJudge, run: Any, summary: Any) -> list[str]:
    """The version that it has published, or found in no need of it, is what it was to be."""
    if summary.published:
        versions = [version for version in judge.snapshots.all if version.command is run]
    else:
        versions = heads_since(judge.snapshots.all, run.begun)
    found = [list(_lacks(version, run, summary, judge.source)) for version in versions]
    if [] in found:
        return []
    why = found[-1][0] if found else "there is none"
    return [f"{run.name} ended well, and no version is what it was to publish: {why}"]


def heads_since(published: Sequence[Published], begun: int) -> Sequence[Published]:
    """The versions that were the newest at some moment from `begun` on."""
    earlier = sum(version.since <= begun for version in published)
    return published[max(0, earlier - 1) :]


def _lacks(version: Published, run: Any, summary: Any, source: Source) -> Iterator[str]:
    if version.spec != run.spec_id:
        yield f"version {version.version} is of another spec"
    if version.oldest < version.version - run.retain + 1:
        yield f"version {version.version} keeps more than {run.retain}"
    for uri, file in source.files.items():
        if not source.always_current(uri, file.version, run.begun):
            continue
        has, is_without = version.uris.get(uri) == file.version, uri in version.failed
        if not has and not is_without:
            yield f"version {version.version} lacks {uri}@{file.version}"
        if is_without and uri not in summary.failed:
            yield f"version {version.version} is without {uri}, and the run said nothing of it"
    for uri, was in () if run.append else version.uris.items():
        if not source.was_current(uri, was, run.begun):
            yield f"version {version.version} has {uri}@{was}, which had gone before the run began"


def wrong_with_retry(judge: TruthJudge, retry: Any, was: Published | None, highest: dict[str, int]) -> list[str]:
    """Each unit that was published with rows kept aside, from its begin to its end, is asked to be worked again, or was since.

    was, highest: the head and the generations when it began.
    """
    head = judge.snapshots.head
    if was is None or head is None:
        return []
    return [
        f"{retry.name} ended well, and {unit} is not asked for"
        for unit, generation in sorted(was.units & head.units)
        if unit in head.wanting and not _is_asked(judge, unit, highest.get(unit, generation))
    ]


def _is_asked(judge: TruthJudge, unit: str, since: int) -> bool:
    """Whether a record above `since` asks for it, or answers who has asked."""
    above = (judge.records.get((unit, number)) for number in range(since + 1, judge.highest[unit] + 1))
    return any(record is not None and (record["reason"] == "retry" or record["state"] != "retired") for record in above)
