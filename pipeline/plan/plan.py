"""The plan: units covered by the head, committed since, and pending. Pure: everything it needs is handed to it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from pipeline.commit.manifest import ManifestUnit
from pipeline.commit.records import PieceRef, UnitRecord, tiles
from pipeline.errors import RefusedError
from pipeline.plan.records import HeadMatch, Plan, SegmentWork
from pipeline.source.records import Extraction, InputFile, Piece, Segment
from pipeline.spec import number_of, segment_id, units_of


def match_head(
    spec_id: str,
    files: Mapping[str, InputFile],
    head: Sequence[ManifestUnit],
    extraction: Extraction,
    *,
    append: bool,
    redo: Set[str] = frozenset(),
) -> HeadMatch:
    """Hold the head's units against today's files (by URI): who stays, who goes, which files are not wholly covered.

    Units in `redo` go, to be worked again. Any other stays while every file of its segment has the version it was read
    from; in `append` mode a file that is not listed today counts as unchanged.
    Raises RefusedError where append would have to drop rows of an unlisted file.
    """
    kept: list[ManifestUnit] = []
    dropped: list[ManifestUnit] = []
    worked_again: list[ManifestUnit] = []
    covered: dict[str, list[PieceRef]] = {}
    gone_rows = 0
    for units in _by_segment(head):
        pieces = units[0].pieces
        listed = [piece for piece in pieces if piece.uri in files]
        same = _is_same(spec_id, units[0].segment, pieces, files, extraction, append=append)
        if not same:
            if append and len(listed) < len(pieces) and listed:
                raise RefusedError(_append_message(pieces, files))
            dropped.extend(units)
            gone_rows += 0 if listed else sum(unit.rows_out for unit in units)
            continue
        # What isn't listed (in append mode) can't be worked again.
        again = redo if len(listed) == len(pieces) else frozenset()
        worked_again.extend(unit for unit in units if unit.unit in again)
        stay = [unit for unit in units if unit.unit not in again]
        kept.extend(stay)
        if is_complete(stay):
            for piece in listed:
                covered.setdefault(piece.uri, []).append(piece)
    open_files = frozenset(uri for uri in files if not tiles(covered.get(uri, [])))
    return HeadMatch(tuple(kept), (*dropped, *worked_again), gone_rows, open_files, tuple(worked_again))


def keep_only(match: HeadMatch, segments: Set[str]) -> HeadMatch:
    """The same where nothing but these segments is wanted: the head's other units go, and no other file is open."""
    kept = tuple(unit for unit in match.kept if unit.segment in segments)
    dropped = tuple(unit for unit in match.kept if unit.segment not in segments)
    return HeadMatch(kept, (*match.dropped, *dropped), match.gone_rows, frozenset())


def is_complete(units: Sequence[ManifestUnit | UnitRecord]) -> bool:
    """Whether a segment's units are all there: 0, 1, … up to one that ended it."""
    numbers = sorted(unit.k for unit in units)
    ends = [unit.k for unit in units if unit.eof]
    return bool(ends) and numbers == list(range(ends[0] + 1))


def candidate_units(segments: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those of the known units that are these segments'."""
    wanted = {units_of(segment) for segment in segments}
    return [unit for unit in known if units_of(unit) in wanted]


def make_plan(
    match: HeadMatch,
    segments: Mapping[str, Segment],
    rulings: Mapping[str, UnitRecord],
    unended: Mapping[str, int],
    covered_files: int,
) -> Plan:
    """Sort the units of the open files' segments (by segment id) into committed and pending.

    unended: unit → attempts at the generation it is to be worked at that left no word of their end.
    """
    kept, recut = _sort_out_recut(match, segments)
    published: dict[str, list[ManifestUnit]] = {}
    for unit in kept:
        published.setdefault(unit.segment, []).append(unit)
    by_segment: dict[str, list[UnitRecord]] = {}
    for record in rulings.values():
        by_segment.setdefault(record.segment, []).append(record)
    died: dict[str, list[tuple[int, int]]] = {}
    for name, count in unended.items():
        died.setdefault(units_of(name), []).append((number_of(name), count))
    ends = _file_ends(segments.values())
    committed: list[UnitRecord] = []
    pending: list[SegmentWork] = []
    for key, segment in segments.items():
        in_head = published.get(key, [])
        head_numbers = {unit.k for unit in in_head}
        ruled = [record for record in by_segment.get(key, []) if record.k not in head_numbers]
        done = [record for record in ruled if record.state == "done"]
        committed.extend(done)
        if is_complete([*in_head, *done]):
            continue
        pending.append(
            SegmentWork(
                id=key,
                segment=segment,
                pieces=piece_refs(segment, ends),
                bytes=sum(_piece_bytes(piece, ends) for piece in segment.pieces),
                done=frozenset(head_numbers | {record.k for record in done}),
                generations=tuple((r.k, r.generation + 1) for r in ruled if r.state != "done"),
                deaths=tuple(sorted(died.get(units_of(key), ()))),
            )
        )
    return Plan(kept, (*match.dropped, *recut), match.gone_rows, tuple(committed), tuple(pending), covered_files)


def _sort_out_recut(
    match: HeadMatch, segments: Mapping[str, Segment]
) -> tuple[tuple[ManifestUnit, ...], tuple[ManifestUnit, ...]]:
    """(who stays, who goes) of the kept units. A file that the head has in part only is cut anew, and a small one may come to
    lie in another group: then all its rows are worked again, and what the head has of them goes."""
    recut = {
        unit.segment
        for unit in match.kept
        if unit.segment not in segments and any(piece.uri in match.open_files for piece in unit.pieces)
    }
    return (
        tuple(unit for unit in match.kept if unit.segment not in recut),
        tuple(unit for unit in match.kept if unit.segment in recut),
    )


def segments_by_id(spec_id: str, segments: Sequence[Segment], extraction: Extraction) -> dict[str, Segment]:
    """Segments under their identity, in the order given."""
    return {segment_id(spec_id, segment, extraction): segment for segment in segments}


def piece_refs(segment: Segment, ends: Mapping[str, int]) -> tuple[PieceRef, ...]:
    """The pieces as records hold them."""
    return tuple(
        PieceRef(p.file.uri, p.file.version, p.measure, p.start, p.stop, last=p.stop == ends[p.file.uri])
        for p in segment.pieces
    )


def untiled_files(units: Sequence[ManifestUnit]) -> list[str]:
    """URIs whose pieces, in complete segments, do not cover the file from its beginning to its end."""
    pieces: dict[str, list[PieceRef]] = {}
    for segment in _by_segment(units):
        for piece in segment[0].pieces:
            pieces.setdefault(piece.uri, []).extend([piece] if is_complete(segment) else [])
    return sorted(uri for uri, found in pieces.items() if not tiles(found))


def _by_segment(units: Sequence[ManifestUnit]) -> Iterator[list[ManifestUnit]]:
    grouped: dict[str, list[ManifestUnit]] = {}
    for unit in units:
        grouped.setdefault(unit.segment, []).append(unit)
    yield from grouped.values()


def _is_same(
    spec_id: str,
    segment: str,
    pieces: Sequence[PieceRef],
    files: Mapping[str, InputFile],
    extraction: Extraction,
    *,
    append: bool,
) -> bool:
    """Whether today's files would make the same segment again (in append mode: as far as they are listed)."""
    if any(piece.uri in files and files[piece.uri].version != piece.version for piece in pieces):
        return False
    if any(piece.uri not in files for piece in pieces):
        return append
    again = Segment(tuple(Piece(files[p.uri], p.measure, p.start, p.stop) for p in pieces))
    return segment_id(spec_id, again, extraction) == segment


def _file_ends(segments: Iterable[Segment]) -> dict[str, int]:
    ends: dict[str, int] = {}
    for segment in segments:
        for piece in segment.pieces:
            ends[piece.file.uri] = max(piece.stop, ends.get(piece.file.uri, 0))
    return ends


def _piece_bytes(piece: Piece, ends: Mapping[str, int]) -> int:
    if piece.measure == "bytes":
        return piece.stop - piece.start
    return piece.file.size * (piece.stop - piece.start) // max(1, ends[piece.file.uri])


def _append_message(pieces: Sequence[PieceRef], files: Mapping[str, InputFile]) -> str:
    changed = next(p.uri for p in pieces if p.uri in files and files[p.uri].version != p.version)
    unlisted = next(p.uri for p in pieces if p.uri not in files)
    return (
        f"{changed} has changed, and its rows were embedded in one unit with those of {unlisted}, which is not in "
        "today's input: append mode can't replace the one and keep the other. Put the file back into the listing for "
        "one run, or run once with output.mode=mirror"
    )
