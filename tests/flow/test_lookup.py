"""What collection learns of source files, and what it does without knowing."""

import uuid
from pathlib import Path

import pytest
from support.jobs import make_config, write_jsonl

import pipeline
from pipeline.commit.attempts import begin_attempt
from pipeline.commit.keys import ATTEMPT
from pipeline.commit.records import AttemptNote, PieceRef
from pipeline.errors import ConfigError, InputError, TransientStorageError
from pipeline.flow import lookup
from pipeline.flow.lookup import Lookup
from pipeline.flow.maintenance import collect_garbage
from pipeline.storage.inputs import Found, find
from pipeline.storage.open import open_store
from pipeline.storage.uri import parse


def test_a_source_is_gone_only_where_its_neighbours_are_still_there(tmp_path: Path) -> None:
    """An empty mount point looks like a folder whose files were deleted; what was made of them would be given up."""
    one, other = tmp_path / "in" / "1.jsonl", tmp_path / "in" / "2.jsonl"
    one.parent.mkdir()
    one.write_bytes(b"{}\n")
    other.write_bytes(b"{}\n")
    found = find(str(one))
    assert found is not None
    assert Lookup()(str(one)) == found.version
    one.unlink()
    assert Lookup()(str(one)) is None
    other.unlink()
    with pytest.raises(InputError, match="whether it is gone can't be told"):
        Lookup()(str(one))
    one.parent.rmdir()
    with pytest.raises(InputError, match="whether it is gone can't be told"):
        Lookup()(str(one))


def test_an_object_that_is_gone_is_gone(s3_bucket: str) -> None:
    """A bucket has no folders that could be unmounted."""
    assert Lookup()(f"{s3_bucket}/in/1.jsonl") is None


def test_a_source_that_may_not_be_looked_at_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="circle"):
        Lookup()(str(tmp_path / "circle"))


def test_a_store_that_is_silent_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each time takes half a minute: a thousand leftovers of a source that was taken down would take a night."""
    asked: list[str] = []

    def look(uri: str) -> Found:
        asked.append(uri)
        if parse(uri).path.startswith("away/"):
            raise TransientStorageError(f"looking at {uri}: no usable answer from the store")
        return Found(uri, "v", 1, "")

    monkeypatch.setattr(lookup, "find", look)
    version_of = Lookup()
    for uri in ("s3://away/1", "s3://away/2", "gs://away/3"):
        with pytest.raises(InputError):
            version_of(uri)
    assert version_of("s3://there/4") == "v"
    assert asked == ["s3://away/1", "gs://away/3", "s3://there/4"]
    assert caplog.text.count("is kept, as it can't be looked at here") == 2
    with pytest.raises(InputError):
        Lookup()("s3://away/5")
    assert asked[-1] == "s3://away/5", "the next collection asks again"


@pytest.mark.parametrize("error", [TransientStorageError("no usable answer"), ConfigError("gcsfs is not installed")])
def test_a_leftover_of_a_source_nobody_can_ask_keeps_no_job_from_its_end(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What a killed run left may have been read from another account, or from a store that was taken down since. Each later run
    ended in an error after it had published, without its mark, and so did `gc`."""
    out = str(tmp_path / "out")
    pieces = (PieceRef("gs://elsewhere/x.jsonl", "etag-10", "bytes", 0, 10, last=True),)
    note = AttemptNote("ab" * 16, "00" * 16, "cd" * 16, 0, "ab" * 16, 0, pieces)
    begin_attempt(open_store(out), note, 0, uuid.uuid4().hex)

    def look(uri: str) -> Found | None:
        if uri.startswith("gs:"):
            raise error
        return find(uri)

    monkeypatch.setattr(lookup, "find", look)
    write_jsonl(tmp_path / "in" / "a.jsonl", range(5))
    summary = pipeline.run(make_config(tmp_path / "in", out, tiny_model))
    assert (summary.exit_code, summary.version) == (0, 1)
    assert (tmp_path / "out" / "_SUCCESS").exists()
    collect_garbage(out)
    [left] = open_store(out).list(ATTEMPT)
    assert note.unit in left.key, "of its own job's source nobody knows anything"
    assert [key for key in collect_garbage(out, abandon=True) if key == left.key], "but it can be given up"
