"""`_SUCCESS` around the making of files, and rows that are gone."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from support.memory import MemoryStore
from support.records import done, input_file, spec, whole

from pipeline.commit.keys import SUCCESS
from pipeline.commit.snapshot import publish
from pipeline.commit.success import clear_success
from pipeline.commit.units import RETRY, commit_unit, read_unit, retire_unit
from pipeline.errors import IncompleteError, Overtaken, VerificationError
from pipeline.flow import engine
from pipeline.flow.engine import Assembling, AssemblyTask
from pipeline.flow.planning import Planned
from pipeline.flow.publishing import _unmarked, retire_lost
from pipeline.sink.assemble import DataFile
from pipeline.sink.records import DataFilePlan, SourceSlice
from pipeline.storage.environment import worker_environment


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


def test_who_makes_a_file_of_a_remnant_reckons_with_the_whole_it_lies_in() -> None:
    """A file of gigabytes that lost most of its units is read whole; several at once took a machine's memory."""
    remnant = SourceSlice("u", "data/a.parquet", 0, 4 << 30, "0" * 64, 0, 10, 1 << 20)
    plan = DataFilePlan(0, "", (remnant,))
    layout: Any = None
    task = AssemblyTask("out", worker_environment(), 1, "a", plan, layout)
    assert task.peak_bytes >= 8 << 30
