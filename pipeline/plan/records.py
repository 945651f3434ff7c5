"""The words of the plan room."""

from dataclasses import dataclass

from pipeline.commit.manifest import ManifestUnit
from pipeline.commit.records import PieceRef, UnitRecord
from pipeline.source.records import Segment


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """A segment with something left to do: what one read task is given."""

    id: str
    segment: Segment
    pieces: tuple[PieceRef, ...]
    bytes: int  # of its files, its share of a columnar one
    done: frozenset[int]  # units that have their record: to be passed over
    generations: tuple[tuple[int, int], ...]  # (k, generation to work at) where that isn't 0
    deaths: tuple[tuple[int, int], ...] = ()  # (k, attempts that ended with their process, or still go on somewhere)

    def generation(self, k: int) -> int:
        """The generation at which the k-th unit is to be worked."""
        return dict(self.generations).get(k, 0)

    def died(self, k: int) -> int:
        """How many attempts at the k-th unit left no word of their end."""
        return dict(self.deaths).get(k, 0)


@dataclass(frozen=True, slots=True)
class HeadMatch:
    """The head's units against today's files."""

    kept: tuple[ManifestUnit, ...]
    dropped: tuple[ManifestUnit, ...]
    gone_rows: int  # rows of dropped units all of whose files are gone: nothing will replace them
    open_files: frozenset[str]  # URIs not wholly covered by complete segments of the head
    again: tuple[
        ManifestUnit, ...
    ] = ()  # of those dropped: their files are as they were, they are only to be worked again


@dataclass(frozen=True, slots=True)
class Plan:
    """What is covered, committed and pending. A pure function of spec, files, head and records."""

    kept: tuple[ManifestUnit, ...]
    dropped: tuple[ManifestUnit, ...]
    gone_rows: int
    committed: tuple[UnitRecord, ...]  # done, not yet in the head
    pending: tuple[SegmentWork, ...]
    covered_files: int
