"""JSONL and plain text: what a line is, what becomes of it, and that byte ranges share a file without loss."""

import bz2
import gzip
import io
import itertools
import json
import lzma
import random
import tarfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.schema import Rows
from pipeline.errors import InputError
from pipeline.source.discover import discover
from pipeline.source.read import read_segment
from pipeline.source.records import InputFile, Piece, Segment, UnitPolicy
from pipeline.source.schema import inspect
from pipeline.source.streams import range_lines
from pipeline.storage.pinned import RangeReader, buffered

from .conftest import PATIENT, POLICY, plan, read_rows, read_table, read_units, source_of, zstd_bytes

BOM = b"\xef\xbb\xbf"
CAP = 16
"""`max_text_bytes`; a line may have four times as many."""

TOKENS = [
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\x0c\t",
    b"\xff",
    BOM,
    "\u2028\x85".encode(),
    b'{"id": "1", "text": "a"}\n',
    '{"id": "2", "text": "\u2028\x85 é"}\n'.encode(),
    b'{"id": "", "text": "b"}\n',
    b'{"id": "3", "text": "\\ud800"}\n',
    b'{"id": "\\udfff", "text": "c"}\n',
    b'{"text": null}\n',
    b'{"id": "4", "text": 7}\n',
    b'{"id": "5", "text": "%s"}\n' % (b"x" * (CAP + 1)),
    b"x" * (4 * CAP + 1),
    b"[1]\n",
]
CONTENTS = st.lists(st.sampled_from(TOKENS), max_size=25).map(b"".join)
Row = tuple[int, str | None, str | None, str | None, bytes | None]


def read_pieces(path: Path, name: str, cuts: Sequence[int]) -> list[Row]:
    """(position, id, text, kind, raw) of all rows, from the byte ranges between the cuts one after the other."""
    first = path.with_stem("0")
    first.write_bytes(b'{"id": "0", "text": "resolves the columns"}')
    lines = name == "text"
    source = source_of(first, path, text="text", id=None if lines else "id", format="auto")
    files = {file.uri: file for file in discover(source)}
    file = files[str(path)]
    extraction = inspect(list(files.values()), source, Rows(malformed="quarantine", max_text_bytes=CAP), ())
    rows: list[Row] = []
    for start, stop in itertools.pairwise([0, *cuts, file.size]):
        end = start
        for unit in read_segment(Segment((Piece(file, "bytes", start, stop),)), extraction, POLICY, POLICY.rows):
            for span in unit.spans:
                assert end <= span.start <= span.stop, "spans of one range follow each other"
                end = span.stop
            rows.extend(
                zip(*(unit.rows[name].to_pylist() for name in ("position", "id", "text", "kind", "raw")), strict=True)
            )
    return rows


@PATIENT
@given(CONTENTS, st.data(), st.sampled_from(["jsonl", "text"]))
def test_any_byte_ranges_of_any_file_give_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject, name: str
) -> None:
    """A 10 GB file is read by many tasks that never see each other; a line at a cut must not be lost or read twice."""
    path = tmp_path_factory.mktemp("ranges") / {"jsonl": "a.jsonl", "text": "a.txt"}[name]
    path.write_bytes(content)
    whole = read_pieces(path, name, [])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=6), label="cuts"))
    assert read_pieces(path, name, cuts) == whole
    assert read_pieces(path, name, range(1, len(content), 7)) == whole


def expected(line: bytes) -> tuple[str | None, str | None, str | None]:
    """(id, text, kind) of a JSONL line by Python's own means."""
    if len(line) > 4 * CAP:
        return None, None, "oversize"
    try:
        row = json.loads(line.decode(errors="replace"))
    except ValueError:
        return None, None, "malformed"
    if not isinstance(row, dict):
        return None, None, "malformed"
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return None, None, "invalid_utf8"
    row_id, text = row.get("id"), row.get("text")
    if not isinstance(text, str | None):
        return row_id, None, "not_a_string"
    if any("\ud800" <= letter <= "\udfff" for letter in f"{row_id}{text}"):
        return None if "\udfff" in str(row_id) else row_id, None, "lone_surrogate"
    if text is None or len(text.encode()) > CAP:
        return row_id, None, "null" if text is None else "oversize"
    return row_id, None if not row_id else text, None if row_id else "null_id"


@PATIENT
@given(CONTENTS)
def test_jsonl_is_json_loads_of_each_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    path.write_bytes(content)
    due = []
    for number, line in enumerate(content.split(b"\n")):
        line = line.removeprefix(BOM) if number == 0 else line
        if line.strip():
            due.append(expected(line if len(line) > 4 * CAP else line.removesuffix(b"\r")))
    assert [(row_id, text, kind) for _, row_id, text, kind, _ in read_pieces(path, "jsonl", [])] == due


@PATIENT
@given(CONTENTS)
def test_text_has_a_row_per_line_blank_ones_too(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(content)
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    starts = [start for start in [0, *ends] if start < len(content)]
    rows = read_pieces(path, "text", [])
    assert [(position, row_id) for position, row_id, *_ in rows] == [(start, f"a.txt@{start}") for start in starts]
    for (_, _, text, kind, _), (start, stop) in zip(rows, itertools.pairwise([*starts, len(content)]), strict=True):
        line = content[start:stop].removesuffix(b"\n").removesuffix(b"\r")
        if start == 0:
            line = line.removeprefix(BOM)
        assert kind in ("oversize", "invalid_utf8") or (kind is None and text is not None and text.encode() == line)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[" * 100_000, "malformed"),
        ('{"id": "1", "text": ' + '{"a": ' * 5000 + "1" + "}" * 5001, "malformed"),
        ('{"id": "1", "text": NaN}', "malformed"),
        ('{"id": "1", "text": "a", "n": Infinity}', "malformed"),
        ('{"id": "1", "text": "a", "n": 1e999}', "malformed"),
        ('{"id": "1", "text": "a", "n": [{"m": -2.5E+400}]}', "malformed"),
        ('{"id": "1", "text": "a", "n": 1e-999}', None),
        ('{"id": "1", "text": %s}' % ("9" * 5000), "malformed"),
        ('{"id": "1", "text": "a"} {"id": "2", "text": "b"}', "malformed"),
        ('{"id": "1", "text": "no", "text": "a"}', None),
        ('{"id": "1", "text": "a", "n": 123456789012345678901234567890}', None),
        ('{"id": "1", "text": "\\u0000a"}', None),
        ('{"id": "1", "text": ["a"]}', "not_a_string"),
        ('{"id": "1", "text": true}', "not_a_string"),
        ('{"id": null, "text": "a"}', "null_id"),
        ('{"text": "a"}', "null_id"),
        ('{"id": "1"}', "null"),
    ],
)
def test_odd_lines_are_one_row_each(tmp_path: Path, line: str, kind: str | None) -> None:
    """Deep nesting must not end the process, and the last of two equal keys counts, as it does nearly everywhere."""
    path = tmp_path / "a.jsonl"
    path.write_text(f'{line}\n{{"id": "9", "text": "good"}}\n', encoding="utf-8")
    (odd, good) = read_rows(path)
    assert good == ("9", "good", None)
    assert odd[2] == kind
    assert (odd[1] is None) == (kind is not None)


@pytest.mark.parametrize(
    ("line", "kind", "row_id"),
    [
        (b'{"id": "1", "text": "\xff"}', "invalid_utf8", None),
        (b'{"id": "1", "text": "\\ud83d"}', "lone_surrogate", "1"),
        (b'{"id": "1", "text": 7}', "not_a_string", "1"),
        (b'{"id": "1", ', "malformed", None),
    ],
)
def test_quarantine_keeps_the_line_and_the_id_where_there_is_one(
    tmp_path: Path, line: bytes, kind: str, row_id: str | None
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "0", "text": "good"}\n' + line)
    rejected = read_table(source_of(path)).slice(1).to_pylist()[0]
    assert (rejected["kind"], rejected["id"], rejected["raw"]) == (kind, row_id, line)
    rows = Rows.model_validate({kind: "refuse"})
    with pytest.raises(InputError, match=rf"a\.jsonl, byte 28: .*rows\.{kind}"):
        read_table(source_of(path), rows)


@pytest.mark.parametrize(
    ("values", "place"),
    [(["1", '"two"'], "byte 23"), (["1", "2.0"], "byte 23"), (['"1"', "2"], "byte 25"), (["1", str(2**63)], "byte 23")],
)
def test_an_id_that_changes_type_after_the_sniffed_rows_is_named(tmp_path: Path, values: list[str], place: str) -> None:
    path, later = tmp_path / "0.jsonl", tmp_path / "1.jsonl"
    path.write_text(f'{{"id": {values[0]}, "text": "a"}}\n' * 1000, encoding="utf-8")
    later.write_text("".join(f'{{"id": {value}, "text": "a"}}\n' for value in values), encoding="utf-8")
    with pytest.raises(InputError, match=rf"1\.jsonl, {place}: 'id' is"):
        read_table(source_of(tmp_path))


@pytest.mark.parametrize("value", ['"text"', "1.5", "true", str(2**63), "[1]"])
def test_a_kept_column_that_changes_type_is_named(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.jsonl"
    rows = ['{"text": "a", "n": 1}', '{"text": "a", "n": null}'] * 500 + [f'{{"text": "a", "n": {value}}}']
    path.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl, byte 23,500: 'n' is"):
        read_table(source_of(path, id=None, keep=("n",)))


def test_a_whole_number_that_no_float_can_hold_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "a", "n": 1.5}}\n{{"text": "a", "n": {2**53 + 1}}}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl, byte 24: 'n' is 9007199254740993"):
        read_table(source_of(path, id=None, keep=("n",)))


def test_a_number_beyond_what_rows_hold_is_refused_and_not_kept_as_infinity(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": 1.5}\n{"text": "a 1e998", "n": 1e999}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"byte 24: .*rows\.malformed .*; 1e999 is beyond the numbers of 64 bits"):
        read_table(source_of(path, id=None, keep=("n",)), Rows())


@pytest.mark.parametrize("document", ['[\n  {\n    "id": "1"\n  }\n]\n', '{\n  "id": "1"\n}\n'])
def test_one_json_document_over_many_lines_is_refused_with_the_way_out(tmp_path: Path, document: str) -> None:
    """.json is the suffix of both."""
    (tmp_path / "1.json").write_text(document, encoding="utf-8")
    with pytest.raises(InputError, match=r"1\.json: none of its first .*JSON lines"):
        read_table(source_of(tmp_path), Rows())
    (tmp_path / "0.json").write_text('{"id": "1", "text": "a"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"1\.json, byte 0: .* JSON lines"):
        read_table(source_of(tmp_path), Rows())


def test_one_endless_line_is_one_row_in_bounded_memory_and_read_once(tmp_path: Path) -> None:
    """Every byte range inside it looks for a line of its own; none may read on to the end of the file for that."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "1", "text": "a"}\n' + b"x" * (40 << 20) + b'\n{"id": "2", "text": "b"}')
    tracemalloc.start()
    units = read_units(source_of(path), Rows(max_text_bytes=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows = [row for unit in units for row in unit.rows.to_pylist()]
    assert [(row["id"], row["kind"]) for row in rows] == [("1", None), (None, "oversize"), ("2", None)]
    assert peak < 8 << 20
    assert len(units) == 41
    assert [unit.spans[0].stop - unit.spans[0].start for unit in units[1:-1]] == [0] * 39


LETTERS = "a line of text\n" * 100
NOISE = random.Random(1).randbytes(1000)


def tar(name: str, data: bytes, kind: int) -> bytes:
    packed, entry = io.BytesIO(), tarfile.TarInfo(name)
    entry.size = len(data)
    with tarfile.open(fileobj=packed, mode="w", format=kind) as archive:
        archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


NOT_LINES = {
    "UTF-16": (LETTERS.encode("utf-16"), "byte 0: the file is UTF-16, not UTF-8"),
    "UTF-16 without a mark": (LETTERS.encode("utf-16-le"), "byte 0: the file is UTF-16LE, not UTF-8"),
    "big-endian UTF-16 without a mark": (LETTERS.encode("utf-16-be"), "byte 0: the file is UTF-16BE, not UTF-8"),
    "UTF-16 after a quote": (("“Ah”, " + LETTERS).encode("utf-16-le"), "byte 0: the file is UTF-16LE, not UTF-8"),
    "UTF-16 after a dash": (("– " + LETTERS).encode("utf-16-be"), "byte 0: the file is UTF-16BE, not UTF-8"),
    "Japanese and English UTF-16": (
        (f"東京: {LETTERS[:15]}" * 50).encode("utf-16-le"),
        "byte 0: the file is UTF-16LE, not",
    ),
    "Russian UTF-16": (("Мы все учились понемногу\n" * 50).encode("utf-16-le"), "byte 0: the file is UTF-16LE, not"),
    "UTF-32 without a mark": (LETTERS.encode("utf-32-le"), "byte 0: the file is UTF-32LE, not UTF-8"),
    "big-endian UTF-32": (("\ufeff" + LETTERS).encode("utf-32-be"), "byte 0: the file is UTF-32, not UTF-8"),
    "big-endian UTF-32 without a mark": (LETTERS.encode("utf-32-be"), "byte 0: the file is UTF-32BE, not UTF-8"),
    "bzip2": (bz2.compress(LETTERS.encode()), "is bzip2 data, not lines of text"),
    "xz": (lzma.compress(LETTERS.encode()), "is xz data, not lines of text"),
    "Parquet": (b"PAR1\x15\x04" + bytes(range(256)), "is a Parquet file, not lines of text"),
    "ORC": (b"ORC\x08\x03" + bytes(range(256)), "is an ORC file, not lines of text"),
    "zip": (b"PK\x03\x04" + bytes(range(256)), "is a zip archive, not lines of text"),
    "UTF-32": (LETTERS.encode("utf-32"), "byte 0: the file is UTF-32, not UTF-8"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3" + bytes(range(256)), "is a PDF document, not lines of text"),
    "tar": (tar("in/a.txt", LETTERS.encode(), tarfile.USTAR_FORMAT), "is a tar archive, not lines of text"),
    "tar of GNU": (tar("in/a.txt", LETTERS.encode(), tarfile.GNU_FORMAT), "is a tar archive, not lines of text"),
    "gzip": (gzip.compress(NOISE), "holds gzip data, but its name doesn't end in .gz; rename it"),
    "zstd": (zstd_bytes(NOISE), "holds zstd data, but its name doesn't end in .zst; rename it"),
    "zstd after a frame without data": (
        b"\x5f\x2a\x4d\x18\x04\0\0\0skip" + zstd_bytes(NOISE),
        "holds zstd data, but its name doesn't end in .zst; rename it",
    ),
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
@pytest.mark.parametrize("kind", NOT_LINES)
def test_what_is_no_file_of_lines_is_refused_by_each_of_its_readers(tmp_path: Path, kind: str, name: str) -> None:
    """Only the head of the file tells, and tasks that never see it would publish the rest as rows of rubbish."""
    path, first = tmp_path / name, (tmp_path / name).with_stem("0")
    data, message = NOT_LINES[kind]
    path.write_bytes(data)
    first.write_bytes(b'{"id": "0", "text": "resolves the columns"}\n')
    policy = UnitPolicy(1000, len(data) // 5, 1 << 20)
    source = source_of(first, path, **({"text": None, "id": None} if name == "a.txt" else {}))
    segments, extraction = plan(source, policy=policy)
    mine = [segment for segment in segments if segment.pieces[0].file.uri == str(path)]
    assert len(mine) >= 5
    for segment in mine:
        with pytest.raises(InputError) as caught:
            list(read_segment(segment, extraction, policy, policy.rows))
        assert message in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"ORC\nELF\nDWARF\n",
        b"ORC\tname\r\na green one\tBolg\r\n",
        b"a\0b\n\0\n",
        b"a\0b\nc\0d\n",  # every zero on one side, by chance
        b"a\0b\0" + LETTERS.encode(),
        b"one\0two\0three\0four\0\n" * 100,
        (LETTERS + "\0\0\n").encode() * 3,
        "“Ah” — 東京\n".encode() * 100,
        b"\0" * 2000 + b"\n",
        b"m" * 256 + b"mustard\n",  # where a tar has its mark
    ],
)
def test_lines_of_utf8_that_look_a_little_like_another_kind_are_read(tmp_path: Path, data: bytes) -> None:
    """A word list that begins with ORC, and zeros here and there: refused, the whole file would be missing."""
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    rows = read_rows(path, text=None, id=None)
    assert [text for _, text, _ in rows] == [line.decode() for line in data.replace(b"\r", b"").split(b"\n") if line]
    assert {kind for *_, kind in rows} == {None}


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_what_tells_a_kind_at_the_head_tells_nothing_at_the_start_of_a_piece(tmp_path: Path, name: str) -> None:
    heads = {data[:4].replace(b"\n", b"") for data, _ in NOT_LINES.values()}
    content = b"".join(b'{"id": "1", "text": "a"}\n' + head + b"\n" for head in sorted(heads))
    path = tmp_path / name
    path.write_bytes(content)
    kind = {"a.jsonl": "jsonl", "a.txt": "text"}[name]
    whole = read_pieces(path, kind, [])
    assert len(whole) == 2 * len(heads)
    assert read_pieces(path, kind, range(1, len(content))) == whole


def test_a_piece_costs_one_small_read_of_the_head() -> None:
    """On S3 that is one request more."""
    data, asked = b"a line\n" * 1_000_000, []

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return data[start:stop]

    file = InputFile("s3://bucket/a.txt", "1", len(data), "text", "none", "a.txt")
    with buffered(RangeReader(len(data), fetch)) as stream:
        assert len(list(range_lines(stream, file, 3_500_000, 3_500_700, 100))) == 100
    (head, small), (start, _) = asked
    assert (head, start) == (0, 3_499_999)
    assert small <= 128 << 10
