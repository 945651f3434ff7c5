"""Units: cut by caps on what the rows are, whatever batches they came in."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.schema import Rows
from pipeline.source import columnar, delimited, text_lines
from pipeline.source.read import read_segment
from pipeline.source.records import Segment, SourceUnit, UnitPolicy

from .conftest import FORMATS, PATIENT, POLICY, jsonl_bytes, plan, read_table, read_units, source_of

SIZES = st.lists(st.sampled_from([0, 1, 2, 5, 30, 100]), max_size=60)


def weight(row: dict[str, Any]) -> int:
    texts = ((row[name] or "").encode() for name in ("id", "text", "keep.lang") if name in row)
    return sum(map(len, texts)) + len(row["raw"] or b"")


def cut_in_batches(path: Path, policy: UnitPolicy, rows: int, size: int) -> list[SourceUnit]:
    """The units with readers that give batches of other sizes."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (columnar, delimited, text_lines):
            patch.setattr(module, "BATCH_ROWS", rows)
            patch.setattr(module, "BATCH_BYTES", size)
        return read_units(source_of(path), Rows(max_text_bytes=80), policy)


@PATIENT
@given(SIZES, st.integers(1, 9), st.integers(1, 120), st.sampled_from(sorted(FORMATS)))
def test_cuts_depend_on_rows_alone_and_keep_to_the_caps(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows: int, size: int, name: str
) -> None:
    """A unit's identity is its number in the segment: another machine, or version, must cut at the same rows."""
    path = tmp_path_factory.mktemp("units") / name
    records = [
        {"id": f"{number}", "text": "é" * (length // 2) + "x" * (length % 2)} for number, length in enumerate(sizes)
    ]
    path.write_bytes(FORMATS[name](records or [{"id": "0", "text": "a"}]))
    policy = UnitPolicy(rows, size, 1 << 20)
    units = cut_in_batches(path, policy, 2048, 4 << 20)
    for batch_rows, batch_bytes in ((1, 1 << 20), (3, 1 << 20), (2048, 50)):
        assert cut_in_batches(path, policy, batch_rows, batch_bytes) == units
    found = [row for unit in units for row in unit.rows.to_pylist()]
    assert [row["id"] for row in found] == ([record["id"] for record in records] or ["0"])
    for unit in units:
        weights = [weight(row) for row in unit.rows.to_pylist()]
        assert len(weights) <= rows
        assert len(weights) == 1 or sum(weights) <= size
    ends = [number for number, unit in enumerate(units) if unit.eof]
    firsts = [number for number, unit in enumerate(units) if unit.k == 0]
    assert [*firsts[1:], len(units)] == [end + 1 for end in ends], (
        "k counts from 0 up to the unit that ends the segment"
    )
    for one, after in itertools.pairwise(units):
        if not one.eof:  # greedy: the next row would have passed a cap
            added = sum(map(weight, [*one.rows.to_pylist(), after.rows.to_pylist()[0]]))
            assert one.rows.num_rows == rows or added > size


def test_kept_text_counts_like_text(tmp_path: Path) -> None:
    """A unit is in memory as a whole; 16,384 pages of HTML that are carried along would not fit."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl_bytes([{"id": "1", "text": "a", "html": "x" * 1000}] * 100))
    policy = UnitPolicy(100, 10_000, 1 << 20)
    units = read_units(source_of(path, keep=("html",)), policy=policy)
    assert max(unit.rows.num_rows for unit in units) == 9


def test_raw_bytes_of_rejected_rows_count_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "0", "text": "a"}\n' + b'{"id": "1", "text": 7, "x": "%s"}\n' % (b"x" * 1000) * 100)
    units = read_units(source_of(path), policy=UnitPolicy(100, 10_000, 1 << 20))[1:]
    assert max(unit.rows.num_rows for unit in units) == 9


def test_the_smaller_of_policy_and_vectors_caps_the_rows(tmp_path: Path) -> None:
    policy = UnitPolicy(rows=100, text_bytes=1 << 20, vector_bytes=4 * 32 * 7)
    assert [policy.max_rows(dimensions) for dimensions in (1, 32, 10**6)] == [100, 7, 1]
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl_bytes([{"id": f"{row}", "text": "a"} for row in range(20)]))
    [segment], extraction = plan(source_of(path), policy=policy)
    assert [unit.rows.num_rows for unit in read_segment(segment, extraction, policy, 7)] == [7, 7, 6]


def test_rows_that_fill_a_unit_exactly_end_the_segment_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl_bytes([{"id": f"{row}", "text": "a"} for row in range(10)]))
    units = read_units(source_of(path), policy=UnitPolicy(5, 1 << 20, 1))
    assert [(unit.k, unit.rows.num_rows, unit.eof) for unit in units] == [(0, 5, False), (1, 5, True)]


def test_a_segment_without_rows_is_one_unit_without_rows(tmp_path: Path) -> None:
    """A file without rows is one, as long as some other has rows."""
    (tmp_path / "a.csv").write_bytes(b"id,text\n")
    (tmp_path / "b.csv").write_bytes(b"id,text\n1,a\n")
    segments, extraction = plan(source_of(tmp_path))
    pieces = [piece for segment in segments for piece in segment.pieces]
    [unit] = read_segment(Segment((pieces[0],)), extraction, POLICY, POLICY.rows)
    assert (unit.k, unit.eof, unit.rows.num_rows) == (0, True, 0)
    assert [(span.start, span.stop) for span in unit.spans] == [(0, 0)]
    assert unit.rows.schema.names == ["file", "position", "id", "text", "kind", "reason", "raw"]


def test_spans_of_a_group_follow_its_pieces(tmp_path: Path) -> None:
    """The n-th span from the first is the n-th file's, which cutting a unit short relies on; empty files count."""
    for number, rows in enumerate([2, 0, 3, 1, 0]):
        (tmp_path / f"{number}.csv").write_text("id,text\n" + "1,a\n" * rows, encoding="utf-8")
    segments, extraction = plan(source_of(tmp_path))
    pieces = tuple(piece for segment in segments for piece in segment.pieces)
    group = dataclasses.replace(segments[0], pieces=pieces)
    policy = UnitPolicy(4, 1 << 20, 1)
    units = list(read_segment(group, extraction, policy, 4))
    assert [unit.rows["file"].to_pylist() for unit in units] == [[0, 0, 2, 2], [2, 3]]
    spans = [[(Path(span.uri).stem, span.start, span.stop) for span in unit.spans] for unit in units]
    assert spans == [[("0", 0, 2), ("1", 0, 0), ("2", 0, 2)], [("2", 2, 3), ("3", 0, 1)]]


def test_spans_of_lines_reach_over_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\n{"id": "1", "text": "a"}\n\n \n{"id": "2", "text": "b"}\n\n')
    units = read_units(source_of(path), policy=UnitPolicy(1, 1 << 20, 1))
    assert [(span.start, span.stop) for unit in units for span in unit.spans] == [(1, 29), (29, 55)]


def test_generated_ids_say_file_and_row_or_byte(tmp_path: Path) -> None:
    (tmp_path / "x=1").mkdir()
    (tmp_path / "x=1/a#b.txt").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "x=1/c.csv").write_text("text\none\ntwo\n", encoding="utf-8")
    found = read_table(source_of(tmp_path, id=None))
    assert found["id"].to_pylist() == ["x=1/a#b.txt@0", "x=1/a#b.txt@4", "x=1/c.csv#0", "x=1/c.csv#1"]
    assert found["id"].type == pa.string()
