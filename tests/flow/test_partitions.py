"""Partitions of the output, and the values that may name their folders."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.jobs import LONG, glob_rows, ids, make_config, text_of

import pipeline
from pipeline.errors import (
    ConfigError,
)
from pipeline.flow.supervisor import plan_job, run_job
from pipeline.storage.local import LocalStore


def test_partitions_and_file_size_are_honoured_together(shards: Path, tmp_path: Path, tiny_model: str) -> None:
    out = tmp_path / "out"
    pipeline.run(
        make_config(shards, str(out), tiny_model, output__partition_by=["lang"], input__keep=["lang"], units__rows=16)
    )
    assert {path.parent.name for path in (out / "data").rglob("*.parquet")} == {"lang=de", "lang=en"}
    assert glob_rows(str(out)) == ids(range(120))


def test_where_upper_and_lower_case_are_the_same_partitions_are_refused(
    tmp_path: Path, shards: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lang=de` and `lang=DE` would be one folder, and a collection takes the files of the one for nobody's."""
    place = LocalStore._name
    monkeypatch.setattr(LocalStore, "_name", lambda self, key: place(self, key.lower()))
    by_lang = {"input__keep": ["lang"], "output__partition_by": ["lang"]}
    with pytest.raises(ConfigError, match="doesn't tell upper from lower case"):
        pipeline.run(make_config(shards, str(tmp_path / "out"), tiny_model, **by_lang))
    assert not (tmp_path / "out" / "data").exists()
    assert pipeline.run(make_config(shards, str(tmp_path / "out"), tiny_model)).exit_code == 0


def write_days(path: Path, days: pa.Array) -> None:
    """A row for each value of the column `day`, with texts long enough that the file is alone in its segment."""
    path.parent.mkdir(exist_ok=True)
    rows = range(len(days))
    table = pa.table(
        {
            "id": [f"{path.stem}-{row}" for row in rows],
            "text": [text_of(row, LONG) for row in rows],
            "day": days,
        }
    )
    pq.write_table(table, path, compression="none", use_dictionary=False)


@pytest.mark.parametrize(
    ("kind", "healthy", "odd"),
    [
        (pa.date32(), 20_000, -1_000_000),
        (pa.date32(), 20_000, 10_000_000),
        (pa.timestamp("us"), 10**15, -(10**17)),
        (pa.timestamp("s"), 10**9, 10**12),
        (pa.timestamp("us", "Foo/Bar"), None, 10**15),
    ],
    ids=str,
)
def test_a_date_that_names_no_folder_fails_its_file_alone(
    tmp_path: Path, tiny_model: str, kind: pa.DataType, healthy: int | None, odd: int
) -> None:
    """Arrow's dates reach further than Python's, and a file may name any time zone."""
    write_days(tmp_path / "in" / "good.parquet", pa.array([healthy] * 8, kind))
    write_days(tmp_path / "in" / "odd.parquet", pa.array([healthy] * 7 + [odd], kind))
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, units__text_mib=1, input__keep=["day"],
        output__partition_by=["day"], output__max_rejected_share=0.9,
    )  # fmt: skip
    summary = pipeline.run(config)
    assert summary.exit_code == 4
    ((uri, reason),) = summary.failed.items()
    assert uri.endswith("odd.parquet")
    assert "partition column 'day': a date or time can't name a folder" in reason
    (published,) = (tmp_path / "out" / "data").rglob("*.parquet")
    assert pq.ParquetFile(published).read(columns=["id"])["id"].to_pylist() == [f"good-{row}" for row in range(8)]


@pytest.mark.parametrize("zone", [None, "UTC", "+01:00", "Europe/Berlin"])
def test_timestamps_name_folders_that_are_percent_encoded_and_come_back(
    tmp_path: Path, tiny_model: str, zone: str | None
) -> None:
    """A colon in a path breaks Hadoop and Spark."""
    moments = pa.array([0, 1_700_000_000_000_005, None], pa.timestamp("us", zone))
    write_days(tmp_path / "in" / "a.parquet", moments)
    out = tmp_path / "out"
    changes = {"input__keep": ["day"], "output__partition_by": ["day"]}
    pipeline.run(make_config(tmp_path / "in", str(out), tiny_model, **changes))
    folders = {path.name for path in (out / "data").iterdir()}
    assert not any(sign in name for name in folders for sign in ": +")
    assert "day=1970-01-01%2000%3A00%3A00" in folders or zone
    expected = {f"a-{row}": moment for row, moment in enumerate(moments.to_pylist())}
    read = ds.dataset(str(out / "data"), partitioning="hive").to_table(columns=["id", "day"]).to_pylist()
    assert {row["id"]: row["day"] and datetime.datetime.fromisoformat(row["day"]) for row in read} == expected
    opened = pipeline.open_snapshot(str(out)).to_table(columns=["id", "day"])
    assert opened.schema.field("day").type == moments.type
    assert {row["id"]: row["day"] for row in opened.to_pylist()} == expected


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.decimal128(12, 2)], ids=str)
def test_columns_of_broken_numbers_are_refused_for_partitions_before_anything_is_encoded(
    tmp_path: Path, tiny_model: str, kind: pa.DataType
) -> None:
    write_days(tmp_path / "in" / "a.parquet", pa.array([1, 2], pa.int32()).cast(kind))
    changes = {"input__keep": ["day"], "output__partition_by": ["day"]}
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, **changes)
    for start in (plan_job, run_job):
        with pytest.raises(ConfigError, match=r"output\.partition_by: 'day' is (float|double|decimal)"):
            start(config)
    assert not (tmp_path / "out").exists()
