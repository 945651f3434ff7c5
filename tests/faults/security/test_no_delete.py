"""A writer that may write but not delete, as infra/iam/writer.json has it: the job is done, says so, and leaves no `_SUCCESS`."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from faults.security.case import job
from support.jobs import ids, read_rows, write_jsonl

from pipeline.errors import StorageError
from pipeline.storage.local import LocalStore
from pipeline.storage.object_store import ObjectStore


@pytest.fixture
def no_delete(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every delete is denied; gives the keys that were asked for."""
    return deny_deleting(monkeypatch)


def deny_deleting(patch: pytest.MonkeyPatch) -> list[str]:
    """Let every delete be denied; the list gets the keys that are asked for."""
    asked: list[str] = []

    def deny(self: object, keys: Sequence[str]) -> None:
        asked.extend(keys)
        if keys:
            raise StorageError(f"deleting {keys[0]}: access denied (AccessDenied, HTTP 403)")

    patch.setattr(LocalStore, "delete", deny)
    patch.setattr(ObjectStore, "delete", deny)
    return asked


def test_a_job_without_the_right_to_delete_is_done_and_writes_no_mark(
    root: str, tmp_path: Path, tiny_model: str, no_delete: list[str]
) -> None:
    from pipeline.storage.open import open_store

    raw = {
        "input": {"paths": [str(tmp_path / "in")], "text": "text", "id": "id"},
        "model": {"name": tiny_model},
        "output": {"path": root},
    }
    for shards in (1, 2):
        write_jsonl(tmp_path / "in" / f"{shards}.jsonl", range(20 * shards - 20, 20 * shards))
        summary = job(raw)
        assert summary.exit_code == 0
        assert any("delete" in message or "_SUCCESS" in message for message in summary.messages), summary.messages
        assert sorted(read_rows(root)) == ids(range(20 * shards))
        assert open_store(root).get("_SUCCESS") is None
    assert no_delete
    assert job(raw).exit_code == 0


def test_a_mark_that_has_become_wrong_is_told_of_and_taken_away_by_the_next_who_may(
    root: str, tmp_path: Path, tiny_model: str
) -> None:
    """Somebody made a file just after another run had set the mark, and died, or could not take the mark away."""
    from pipeline.storage.open import open_store

    write_jsonl(tmp_path / "in" / "1.jsonl", range(20))
    raw = {
        "input": {"paths": [str(tmp_path / "in")], "text": "text", "id": "id"},
        "model": {"name": tiny_model},
        "output": {"path": root},
    }
    store = open_store(root)
    assert job(raw).exit_code == 0
    assert store.get("_SUCCESS") is not None
    store.put_new(f"data/1-{'a' * 32}-0-{'b' * 32}.parquet", b"rows of a version that never came")
    with pytest.MonkeyPatch.context() as patch:
        deny_deleting(patch)
        told = job(raw)
    assert told.exit_code == 0
    assert any("gives other rows than it promises" in message for message in told.messages), told.messages
    assert job(raw).exit_code == 0
    assert store.get("_SUCCESS") is None
