"""`_SUCCESS` around the making of files, and what may be believed of a source."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.memory import MemoryStore
from support.records import done, input_file, spec, whole

from pipeline.commit.keys import SUCCESS
from pipeline.commit.snapshot import publish
from pipeline.commit.success import clear_success
from pipeline.commit.units import RETRY, commit_unit, read_unit, retire_unit
from pipeline.errors import IncompleteError, InputError, Overtaken, VerificationError
from pipeline.flow import engine
from pipeline.flow.engine import Assembling, AssemblyTask
from pipeline.flow.planning import Planned
from pipeline.flow.publishing import _unmarked, retire_lost, version_now
from pipeline.sink.assemble import DataFile
from pipeline.sink.records import DataFilePlan
from pipeline.storage.environment import worker_environment
from pipeline.storage.inputs import find


def test_a_run_that_fails_over_its_files_leaves_no_mark_that_another_set_meanwhile() -> None:
    """Between the removal of the mark and the first file data/ is the head's, so another run may rightly set it."""
    store = MemoryStore()
    store.put(SUCCESS, b"before")

    def fail() -> None:
        with _unmarked(store):
            assert store.get(SUCCESS) is None
            store.put(SUCCESS, b"by another run")
            raise IncompleteError("the store was away")

    with pytest.raises(IncompleteError):
        fail()
    assert store.get(SUCCESS) is None


def test_a_data_file_is_not_committed_beside_a_mark_that_another_run_has_set_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two healthy runs: one has settled the mark between the other's look for it and the other's first file. It would stand,
    wrong, until that one publishes, which may take an hour."""
    store = MemoryStore()
    monkeypatch.setattr(engine, "open_store", lambda _: store)
    monkeypatch.setattr(engine, "write_data_file", lambda *_: DataFile(b"rows", "0" * 64, 0))
    task = AssemblyTask("memory", worker_environment(), 1, "a" * 16, DataFilePlan(0, "", ()), None)  # type: ignore[arg-type]
    clear_success(store)
    store.put(SUCCESS, b"by another run")
    record = Assembling(task).make()
    assert store.get(SUCCESS) is None
    assert store.get(record.file.key) == b"rows"


@pytest.mark.parametrize("published", [False, True])
def test_a_file_that_is_gone_is_damage_unless_somebody_has_published_since(
    monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    """A machine with other libraries makes other bytes of the same rows; a collection takes what the next version left."""
    store = MemoryStore()
    monkeypatch.setattr(engine, "open_store", lambda _: store)
    monkeypatch.setattr(engine, "write_data_file", lambda *_: DataFile(b"rows", "0" * 64, 0))
    task = AssemblyTask("memory", worker_environment(), 0, "a" * 32, DataFilePlan(0, "", ()), None)  # type: ignore[arg-type]
    record = Assembling(task).make()
    store.delete([record.file.key])
    monkeypatch.setattr(engine, "write_data_file", lambda *_: DataFile(b"rows!", "1" * 64, 0))
    if published:
        publish(store, spec(), None, (), retain=1, failed={}, facts={})
    with pytest.raises(Overtaken if published else VerificationError, match=record.file.key):
        Assembling(task).make()


def test_a_request_to_try_rows_again_outlives_what_answered_it_and_was_taken_away() -> None:
    """The head still has the rows it is about, kept aside as they were."""
    store = MemoryStore()
    record = dataclasses.replace(done(spec(), whole(input_file("a.jsonl"))), rows_in=11, rows_quarantined=1)
    assert record.part is not None
    commit_unit(store, record)
    retire_unit(store, record, 1, RETRY)
    again = dataclasses.replace(record, generation=2)
    commit_unit(store, again)  # and its part is nowhere
    plan: Any = SimpleNamespace(committed=(again,))
    assert retire_lost(store, Planned(None, False, (), plan, 0, 0)) == 1
    standing = read_unit(store, record.unit, 3)
    assert standing is not None
    assert (standing.state, standing.reason) == ("retired", RETRY)


def test_a_source_is_gone_only_where_its_neighbours_are_still_there(tmp_path: Path) -> None:
    """An empty mount point looks like a folder whose files were deleted; what was made of them would be given up."""
    one, other = tmp_path / "in" / "1.jsonl", tmp_path / "in" / "2.jsonl"
    one.parent.mkdir()
    one.write_bytes(b"{}\n")
    other.write_bytes(b"{}\n")
    found = find(str(one))
    assert found is not None
    assert version_now(str(one)) == found.version
    one.unlink()
    assert version_now(str(one)) is None
    other.unlink()
    with pytest.raises(InputError, match="whether it is gone can't be told"):
        version_now(str(one))
    one.parent.rmdir()
    with pytest.raises(InputError, match="whether it is gone can't be told"):
        version_now(str(one))


def test_an_object_that_is_gone_is_gone(s3_bucket: str) -> None:
    """A bucket has no folders that could be unmounted."""
    assert version_now(f"{s3_bucket}/in/1.jsonl") is None


def test_a_source_that_may_not_be_looked_at_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="circle"):
        version_now(str(tmp_path / "circle"))
