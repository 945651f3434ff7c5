"""Small records for protocol and plan tests."""

import hashlib

from pipeline.commit.keys import part_key
from pipeline.commit.records import FileRef, PieceRef, UnitRecord
from pipeline.sink.records import FolderRows
from pipeline.source.records import Extraction, InputFile, Piece, Segment, Span
from pipeline.spec import Spec, make_spec, segment_id, unit_id

EXTRACTION = Extraction(
    text="text", template=None, id="id", id_type="string", keep=(), csv_delimiter=",", max_text_bytes=1 << 20, reject=()
)


def spec(name: str = "a", limit: int | None = None) -> Spec:
    """A spec that differs by `name`."""
    return make_spec({"name": name, "outputs": [{"dimensions": 2}]}, {}, limit)


def input_file(name: str, version: str = "1", size: int = 100) -> InputFile:
    """A JSONL file."""
    return InputFile(f"/in/{name}", version, size, "jsonl", "none", name)


def whole(file: InputFile) -> Segment:
    """A segment of one whole file."""
    return Segment((Piece(file, "bytes", 0, file.size),))


def uuid_of(text: str) -> str:
    """32 hexadecimal characters made from a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def done(
    owner: Spec,
    segment: Segment,
    k: int = 0,
    *,
    eof: bool = True,
    rows: int = 10,
    generation: int = 0,
    attempt: str = "a",
) -> UnitRecord:
    """The commit record of a unit whose part is named but need not exist."""
    key = segment_id(owner.spec_id, segment, EXTRACTION)
    unit = unit_id(key, k)
    name = uuid_of(attempt)
    file = FileRef(part_key(unit, generation, name), 1000, rows, "0" * 64)
    return UnitRecord(
        unit=unit,
        generation=generation,
        state="done",
        spec=owner.spec_id,
        segment=key,
        k=k,
        attempt=name,
        eof=eof,
        pieces=tuple(
            PieceRef(p.file.uri, p.file.version, p.measure, p.start, p.stop, last=p.stop == p.file.size)
            for p in segment.pieces
        ),
        spans=tuple(Span(p.file.uri, p.file.version, p.measure, p.start, p.stop) for p in segment.pieces),
        part=file if rows else None,
        folders=(FolderRows("", rows, 0, 1000, file.sha256),) if rows else (),
        rows_in=rows,
        rows_out=rows,
        digest="d",
    )
