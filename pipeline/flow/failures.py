"""What a run has tried in vain and doesn't try again, and what becomes of files that were tried together."""

from collections.abc import Set

from pipeline.flow.acks import Ack
from pipeline.flow.planning import Planned
from pipeline.plan.records import SegmentWork


def reason_of(ack: Ack) -> str:
    """Its message without the URI that stands beside it."""
    return ack.message.removeprefix(ack.uri).lstrip(",: ")


class Failures:
    """As they are found by one run."""

    def __init__(self) -> None:
        self._apart: set[frozenset[str]] = set()
        self._reasons: dict[str, tuple[str, str]] = {}  # segment id → (URI, reason)
        self._tried_for: dict[str, int] = {}  # of these, those of which a head had rows → its version

    @property
    def segments(self) -> Set[str]:
        """Ids of those that were tried in vain."""
        return self._reasons.keys()

    @property
    def apart(self) -> list[frozenset[str]]:
        """Sets of files that are not to be grouped with others any more; of two that share a file the first one counts."""
        return sorted(self._apart, key=lambda own: (len(own), sorted(own)))

    def take(self, ack: Ack, segment: SegmentWork | None, planned: Planned) -> bool:
        """Note the failure of a unit; whether something is given up over it. segment: None where there is nothing smaller to
        try.

        A group of small files is tried again file by file: only then is it known which of them is at fault. But where the head
        has their rows, and they were only to be worked again, they are tried as the head has them, together: file by file they
        would be other units, and the published rows of the one at fault would be gone. That is given up with this head: another
        run may publish one that doesn't have them.
        """
        if ack.segment in {unit.segment for unit in planned.again}:
            self._tried_for[ack.segment] = planned.version
        elif segment is not None and self._take_apart(segment, planned):
            return False
        else:
            self._tried_for.pop(ack.segment, None)
        self._reasons[ack.segment] = ack.uri, reason_of(ack)
        return True

    def to_try(self, planned: Planned) -> list[SegmentWork]:
        """What is pending and not given up."""
        return [segment for segment in planned.plan.pending if not self._is_given_up(segment, planned)]

    def files(self, planned: Planned) -> dict[str, str]:
        """URI → reason of what this run could not read."""
        return dict(
            self._reasons[segment.id] for segment in planned.plan.pending if self._is_given_up(segment, planned)
        )

    def in_vain(self, planned: Planned) -> dict[str, str]:
        """URI → reason of what was to be worked again and could not be: what was published of it stays."""
        segments = {unit.segment for unit in planned.plan.kept} & self.segments
        return {
            uri: f"{reason}; its rows stay as they were published"
            for uri, reason in (self._reasons[segment] for segment in sorted(segments))
        }

    def _take_apart(self, group: SegmentWork, planned: Planned) -> bool:
        """See that its files are tried in smaller company; whether there is any that wasn't tried yet."""
        files = {piece.uri for piece in group.pieces}
        if len(files) == 1:
            return False
        together = {frozenset(piece.uri for piece in unit.pieces) for unit in planned.again}
        apart = {own for own in together if own & files} | {frozenset([uri]) for uri in files.difference(*together)}
        if apart <= self._apart:  # or the same would be tried for ever
            return False
        self._apart |= apart
        return True

    def _is_given_up(self, pending: SegmentWork, planned: Planned) -> bool:
        return pending.id in self._reasons and self._tried_for.get(pending.id, planned.version) == planned.version
