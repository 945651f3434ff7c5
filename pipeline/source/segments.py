"""Segments: cutting files into what one task reads. A pure function of file versions, footers and unit policy."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from pipeline.source.records import Footer, InputFile, Piece, Segment, UnitPolicy

SMALL_FRACTION, GROUP_FRACTION = 512, 16
"""Files below a unit's text bytes / 512 (64 KiB by default) are grouped, up to text bytes / 16 (2 MiB) together.

A group is redone as a whole when one of its files changes, so it is kept small; bigger files are on their own.
"""

GROUP_FILES = 1000
BOUNDARY = 64
"""One tiny file in this many, chosen by the hash of its name, begins a group whatever comes before it; of bigger ones
so many that most groups end there and not at a cap, which would move when a file is added."""


def cut_segments(files: Sequence[InputFile], footers: Mapping[str, Footer], policy: UnitPolicy) -> list[Segment]:
    """Segments that cover every file from its beginning to its end, in the order of URIs."""
    small_bytes, group_bytes = policy.text_bytes // SMALL_FRACTION, policy.text_bytes // GROUP_FRACTION
    segments: list[Segment] = []
    group: list[InputFile] = []
    for file in sorted(files, key=lambda file: file.uri):
        if file.size >= small_bytes:
            segments.extend(Segment((piece,)) for piece in cut_file(file, footers.get(file.uri), policy))
            continue
        full = sum(member.size for member in group) + file.size > group_bytes or len(group) >= GROUP_FILES
        if group and (full or _begins_group(file, policy)):
            segments.append(_grouped(group, footers))
            group = []
        group.append(file)
    if group:
        segments.append(_grouped(group, footers))
    return segments


def cut_file(file: InputFile, footer: Footer | None, policy: UnitPolicy) -> Iterator[Piece]:
    """Pieces of one file: runs of row groups, byte ranges, or the whole."""
    if footer is not None:
        yield from _row_runs(file, footer, policy)
    elif file.format in ("jsonl", "text") and file.compression == "none" and file.size:
        for start in range(0, file.size, policy.text_bytes):
            yield Piece(file, "bytes", start, min(start + policy.text_bytes, file.size))
    else:
        yield Piece(file, "bytes", 0, file.size)


def _row_runs(file: InputFile, footer: Footer, policy: UnitPolicy) -> Iterator[Piece]:
    """Consecutive row groups up to a unit's caps; a bigger one is a piece of its own, read as a stream."""
    start = stop = size = 0
    for rows, weight in zip(footer.rows, footer.bytes, strict=True):
        if stop > start and (stop - start + rows > policy.rows or size + weight > policy.text_bytes):
            yield Piece(file, "rows", start, stop)
            start, size = stop, 0
        stop += rows
        size += weight
    yield Piece(file, "rows", start, stop)


def _grouped(group: Sequence[InputFile], footers: Mapping[str, Footer]) -> Segment:
    pieces = []
    for file in group:
        footer = footers.get(file.uri)
        pieces.append(Piece(file, "rows", 0, sum(footer.rows)) if footer else Piece(file, "bytes", 0, file.size))
    return Segment(tuple(pieces))


def _begins_group(file: InputFile, policy: UnitPolicy) -> bool:
    group_bytes = policy.text_bytes // GROUP_FRACTION
    number = int.from_bytes(hashlib.sha256(file.uri.encode()).digest()[:4])
    return number * group_bytes < max(group_bytes // BOUNDARY, 2 * file.size) << 32
