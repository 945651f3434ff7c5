"""Readers of a published snapshot: by manifest through pyarrow, versions, and being overtaken."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.snapshots import Edits, Made, make_snapshot

import pipeline
from pipeline.commit.keys import log_key
from pipeline.commit.records import LogEntry
from pipeline.errors import InputError, VerificationError
from pipeline.export.snapshot import list_files, open_dataset


@pytest.fixture
def made(root: str, tmp_path: Path, tiny_model: str) -> Made:
    return make_snapshot(root, tmp_path / "in", tiny_model)


def test_the_dataset_has_every_row_of_the_manifest_and_nothing_else(made: Made) -> None:
    """Strangers below data/ (files of a run that is going on, or was killed) are not in the snapshot."""
    stranger = made.store.get(made.keys[0])
    assert stranger is not None
    made.store.put_new("data/" + "0-" + "b" * 32 + "-0-" + "c" * 32 + ".parquet", stranger)
    table = pipeline.open_snapshot(made.root).to_table()
    assert sorted(table["id"].to_pylist()) == sorted(f"id-{row}" for row in range(16))
    assert table.column_names == ["id", "embedding", "token_count", "truncated", "text_hash"]


def test_files_are_listed_with_absolute_uris_sizes_and_hashes(made: Made) -> None:
    files = list_files(made.root)
    assert [file.rows for file in files] == [8, 8]
    for file in files:
        assert file.uri.startswith(made.root + "/data/")
        data = made.store.get(file.uri.removeprefix(made.root + "/"))
        assert data is not None
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)


def test_a_relative_output_gives_absolute_files(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_snapshot(str(tmp_path / "out"), tmp_path / "in", tiny_model)
    monkeypatch.chdir(tmp_path)
    assert all(pq.read_metadata(file.uri).num_rows == file.rows for file in list_files("out"))


def test_nothing_published_and_versions_not_kept_are_input_errors(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing has been published"):
        open_dataset(str(tmp_path / "nowhere"))
    for version in (0, 2, 99):
        with pytest.raises(InputError, match=f"version {version} is not kept; versions 1 to 1 are"):
            list_files(made.root, version)
    assert open_dataset(made.root, 1).count_rows() == 16


def test_an_older_version_opens_while_it_is_retained(made: Made) -> None:
    first = LogEntry.from_json(made.store.get(log_key(1)) or b"")
    made.store.put_new(log_key(2), replace(first, version=2, base=1, oldest=1).to_json())
    assert open_dataset(made.root, 1).count_rows() == open_dataset(made.root).count_rows() == 16
    made.store.put_new(log_key(3), replace(first, version=3, base=2, oldest=3).to_json())
    with pytest.raises(InputError, match="versions 3 to 3"):
        open_dataset(made.root, 1)


def test_a_file_gone_under_the_same_head_is_an_error_that_says_so(made: Made) -> None:
    made.store.delete(made.keys[:1])
    with pytest.raises(VerificationError, match="embedpipe verify"):
        open_dataset(made.root)


def test_a_reader_that_is_overtaken_reads_the_newer_snapshot(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading the head and opening its files a run may publish and collect: not the reader's fault."""
    import pipeline.export.snapshot as module

    right, calls = module._dataset, []

    def gone_once(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            first = LogEntry.from_json(made.store.get(log_key(1)) or b"")
            made.store.put_new(log_key(2), replace(first, version=2, base=1).to_json())
            raise FileNotFoundError("a data file")
        return right(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_dataset", gone_once)
    assert open_dataset(made.root).count_rows() == 16
    assert len(calls) == 2


def test_a_snapshot_without_rows_opens_as_an_empty_dataset(tmp_path: Path, tiny_model: str) -> None:
    """Every row was rejected, and allowed to be."""

    def empty(units: list) -> list:  # type: ignore[type-arg]
        return [replace(unit, slices=(), rows_out=0, rows_quarantined=4) for unit in units]

    made = make_snapshot(str(tmp_path / "out"), tmp_path / "in", tiny_model, Edits(units=empty))
    assert open_dataset(made.root).count_rows() == 0
    assert "embedding" in open_dataset(made.root).schema.names
