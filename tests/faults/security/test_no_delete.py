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
    asked: list[str] = []

    def deny(self: object, keys: Sequence[str]) -> None:
        asked.extend(keys)
        if keys:
            raise StorageError(f"deleting {keys[0]}: access denied (AccessDenied, HTTP 403)")

    monkeypatch.setattr(LocalStore, "delete", deny)
    monkeypatch.setattr(ObjectStore, "delete", deny)
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
