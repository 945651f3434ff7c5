"""Real jobs over every kind of input pass verification with all of their rows sampled: the checker's own reading of the
formats, ids, templates and prompts agrees with the pipeline's, though they share no code."""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from support.jobs import LONG, make_config, text_of, write_jsonl, write_parquet

import pipeline
from pipeline.check.report import Report
from pipeline.check.verify import verify
from pipeline.flow.supervisor import run_job

Write = Callable[[Path], None]


def statuses(report: Report) -> dict[str, bool | None]:
    """Checks that are not plainly passed."""
    return {f"{check.name}: {check.detail}": check.passed for check in report.checks if check.passed is not True}


def parquet_shards(folder: Path) -> None:
    table = pa.table({"id": pa.array(range(60), pa.int32()), "text": [text_of(row) for row in range(60)]})
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet", row_group_size=7)
    pq.write_table(table.slice(0, 0), folder / "empty.parquet")


def arrow_shards(folder: Path) -> None:
    folder.mkdir()
    table = pa.table({"id": [f"{row:03}" for row in range(40)], "text": [text_of(row) for row in range(40)]})
    with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)


def untidy_jsonl(folder: Path) -> None:
    """A mark at the start, blank lines first, between and last, line ends of two kinds, no last one."""
    folder.mkdir()
    lines = [json.dumps({"id": f"i{row}", "text": text_of(row)}) for row in range(50)]
    data = "\ufeff" + "\n \n" + "\n".join(lines[:20]) + "\r\n\n\n" + "\r\n".join(lines[20:]) + "\n\n  \n"
    (folder / "a.jsonl").write_bytes(data.encode())
    (folder / "b.jsonl").write_bytes(b'{"id": "last", "text": "no line end"}')
    (folder / "blank.jsonl").write_bytes(b"\n\n")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(b'\n{"id": "z1", "text": "one"}\n\n{"id": "z2", "text": "two"}'))


def packed_jsonl(folder: Path) -> None:
    """Blank lines within and between units, whose spans were bytes of the inflated stream for it: every row of a healthy output
    was said to be missing."""
    folder.mkdir()
    rows = "".join(json.dumps({"id": f"i{row}", "text": text_of(row)}) + "\n" * (1 + row % 3) for row in range(50))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b"\n" + rows.encode() + b"\n"))
    (folder / "b.jsonl.zst").write_bytes(pa.compress(rows.replace('"i', '"z').encode(), "zstd", asbytes=True))


def csv_shards(folder: Path) -> None:
    folder.mkdir()
    rows = "".join(f'{row:03},"text, with ""quotes"" and\nline {row}"\n' for row in range(40))
    (folder / "a.csv").write_text("id,text\n" + rows)
    (folder / "b.csv").write_text("text,id\r\nanother order,x\r\n\r\nafter a blank line,y")
    (folder / "c.tsv").write_text("id\ttext\nt1\ta,b\n")
    (folder / "d.csv.gz").write_bytes(gzip.compress(b"id,text\nq,zipped\n"))


def text_shards(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.txt").write_text("\n".join(f"line {row}" for row in range(40)) + "\n\n\nlast", newline="\n")
    (folder / "b.txt.gz").write_bytes(gzip.compress("eins\u2028noch eins\n\ndrei\n".encode()))


def folders(folder: Path) -> None:
    for lang in ("en", "pt%2Fbr"):
        write_jsonl(folder / f"region={lang}" / "part.jsonl", range(10) if lang == "en" else range(10, 20))


def text_in_folders(folder: Path) -> None:
    """What is embedded stands in no file."""
    for text in ("one", "two"):
        write_parquet(folder / f"title={text}" / "part.parquet", range(5))


def nested(folder: Path) -> None:
    folder.mkdir()
    rows = [{"id": row, "doc": {"title": f"T{row}", "score": row / 3, "ok": row % 2 == 0}} for row in range(30)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    (folder / "b.jsonl").write_text("".join(json.dumps({**row, "id": row["id"] + 100}) + "\n" for row in rows))


def tiny_files(folder: Path) -> None:
    for number in range(30):
        write_parquet(folder / f"{number:02}.parquet", range(4 * number, 4 * number + 4))


def with_rejects(folder: Path) -> None:
    folder.mkdir()
    rows = [{"id": f"i{row}", "text": None if row % 5 == 0 else text_of(row)} for row in range(30)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"id": "n", "text": 7}\n')
    (folder / "b.jsonl").write_bytes(b'{"id": "u", "text": "\xff"}\n{"id": "e", "text": ""}\n')


def not_utf8(folder: Path) -> None:
    """As writers leave it that take bytes for text."""
    folder.mkdir()
    for name, opened in (("a.parquet", None), ("b.arrow", pa.ipc.new_file)):
        text = pa.array([b"one", b"\xff", b"three", b"\xed\xa0\x80"]).view(pa.string())
        table = pa.table({"id": [f"{name}-{row}" for row in range(4)], "text": text})
        if opened is None:
            pq.write_table(table, folder / name)
        else:
            with pa.OSFile(str(folder / name), "wb") as sink, opened(sink, table.schema) as writer:
                writer.write_table(table)


@pytest.mark.parametrize(
    ("write", "changes"),
    [
        (parquet_shards, {}),
        (parquet_shards, {"input__id": None}),
        (arrow_shards, {"model__precision": "exact"}),
        (untidy_jsonl, {}),
        (untidy_jsonl, {"input__id": None}),
        (packed_jsonl, {"input__id": None}),
        (csv_shards, {}),
        (text_shards, {"input__id": None, "input__text": None}),
        (folders, {"input__keep": ["region"], "output__partition_by": ["region"]}),
        (folders, {"input__text": None, "input__template": "{region}: {text}"}),
        (text_in_folders, {"input__text": "title", "input__id": None}),
        (text_in_folders, {"input__text": None, "input__template": "On {title}", "input__id": None}),
        (nested, {"input__text": "doc.title"}),
        (nested, {"input__text": None, "input__template": "{doc.title} {id} {doc.ok}"}),
        (tiny_files, {"input__id": None}),
        (with_rejects, {"output__max_rejected_share": 1.0}),
        (not_utf8, {"output__max_rejected_share": 1.0}),
        (parquet_shards, {"model__prompt": "query: ", "model__truncate_dim": 8, "model__max_tokens": 8}),
        (parquet_shards, {"output__vector_type": "fixed_size_list"}),
    ],
)
def test_a_job_over_any_input_passes_with_every_row_sampled(
    write: Write, changes: Mapping[str, Any], tmp_path: Path, tiny_model: str
) -> None:
    write(tmp_path / "in")
    output = str(tmp_path / "out")
    pipeline.run(make_config(tmp_path / "in", output, tiny_model, units__rows=16, **changes))
    report = verify(output, sample=1000)
    assert statuses(report) == {}
    assert "rows found again in the source" in next(c.detail for c in report.checks if c.name == "sample texts")


@pytest.mark.parametrize("rows", [0, 40])
def test_a_kept_date_of_any_unit_is_what_the_spec_and_the_snapshot_say(
    rows: int, tmp_path: Path, tiny_model: str
) -> None:
    """Parquet has dates in days only: with milliseconds in the spec each file of a healthy output would have a wrong schema,
    and a snapshot without rows another one than its successor."""
    (tmp_path / "in").mkdir()
    days = pa.array([86_400_000 * row for row in range(40)], pa.int64()).cast(pa.date64())
    table = pa.table(
        {"id": range(40), "text": [text_of(row) if row < rows else None for row in range(40)], "day": days}
    )
    with pa.OSFile(str(tmp_path / "in" / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    output = str(tmp_path / "out")
    changes: dict[str, Any] = {"input__keep": ["day"], "output__max_rejected_share": 1.0}
    pipeline.run(make_config(tmp_path / "in", output, tiny_model, **changes))
    assert verify(output, sample=40).passed
    snapshot = pipeline.open_snapshot(output)
    assert snapshot.schema.field("day").type == pa.date32()
    assert sorted(snapshot.to_table()["day"].to_pylist()) == days.to_pylist()[:rows]


def test_a_limited_run_is_verified_as_far_as_it_read(tmp_path: Path, tiny_model: str) -> None:
    tiny_files(tmp_path / "in")
    output = str(tmp_path / "out")
    run_job(make_config(tmp_path / "in", output, tiny_model, units__rows=8), limit=21)
    report = verify(output, sample=100)
    assert statuses(report) == {}
    assert "in part" in next(check.detail for check in report.checks if check.name == "source rows")


def test_units_spread_over_partitions_are_said_not_to_be_checked_for_pairing(tmp_path: Path, tiny_model: str) -> None:
    write_parquet(tmp_path / "in" / "a.parquet", range(20))
    output = str(tmp_path / "out")
    changes = {"input__keep": ["lang"], "output__partition_by": ["lang"]}
    pipeline.run(make_config(tmp_path / "in", output, tiny_model, **changes))
    report = verify(output, sample=20)
    (pairing,) = (check for check in report.checks if check.passed is not True)
    assert pairing.name == "pairing"
    assert pairing.detail == "1 of 1 units can't be checked: the rows of 1 are spread over several files"
    assert report.passed


def test_units_whose_file_is_missing_are_not_said_to_be_spread(tmp_path: Path, tiny_model: str) -> None:
    """Of two partitions one file is gone; a unit of the other partition alone is checked, one over both can't be."""
    for name, rows in (("a", range(0, 20, 2)), ("b", range(1, 20, 2)), ("c", range(20, 40))):  # languages take turns
        write_parquet(tmp_path / "in" / f"{name}.parquet", rows, words=4 * LONG)
    output = str(tmp_path / "out")
    changes = {"input__keep": ["lang"], "output__partition_by": ["lang"], "units__text_mib": 1}
    pipeline.run(make_config(tmp_path / "in", output, tiny_model, **changes))
    next((tmp_path / "out" / "data" / "lang=de").glob("*.parquet")).unlink()
    report = verify(output, source=False)
    details = {check.name: check.detail for check in report.checks}
    assert details["pairing"].endswith(
        "2 of 3 units can't be checked: the rows of 1 are spread over several files; the rows of 1 are missing, or in a file "
        "that can't be read"
    )


def test_a_source_on_s3_that_was_rewritten_in_place_is_noticed(s3_bucket: str, tmp_path: Path, tiny_model: str) -> None:
    """Same name, same number of rows, another ETag."""
    import boto3

    client = boto3.client("s3")
    bucket = s3_bucket.removeprefix("s3://")
    write_jsonl(tmp_path / "a.jsonl", range(10))
    client.upload_file(str(tmp_path / "a.jsonl"), bucket, "in/a.jsonl")
    output = f"{s3_bucket}/out"
    pipeline.run(make_config(f"{s3_bucket}/in", output, tiny_model))
    assert statuses(verify(output, sample=10)) == {}
    write_jsonl(tmp_path / "a.jsonl", range(20, 30))
    client.upload_file(str(tmp_path / "a.jsonl"), bucket, "in/a.jsonl")
    assert {check.name: check.passed for check in verify(output).checks}["source versions"] is None
