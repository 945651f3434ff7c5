"""What a cluster is sent is packed on this machine first, whose disk may be full."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StorageError
from pipeline.flow import submit


def full(_: Path) -> None:
    Path("/dev/full").write_text("x", encoding="utf-8")


def full_after_some(folder: Path) -> None:
    """As `copytree` tells it: of each file that it couldn't copy."""
    source = folder / "from"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).symlink_to("nowhere")
    shutil.copytree(source, folder / "to")


def send(pack: Callable[[Path], None]) -> int:
    return submit.send(pack, "true", "http://head:8265", output="s3://b/out", follow=False, show=lambda _: None)


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard that isn't open to everybody."""
    monkeypatch.setattr(submit, "refuse_open_dashboard", lambda _: None)


@pytest.mark.parametrize(
    ("pack", "said"), [(full, "No space left on device"), (full_after_some, "No such file or directory")]
)
def test_a_temporary_folder_that_is_full_is_not_taken_for_a_wrong_dashboard(
    pack: Callable[[Path], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 and "check --address" would stop a nightly job for good, and send its owner to the wrong machine."""
    monkeypatch.setattr(submit, "_Client", lambda *_: pytest.fail("the cluster was asked"))
    with pytest.raises(StorageError, match=rf"can't be packed to be sent, .*: \[Errno \d+\] {said}.* TMPDIR") as told:
        send(pack)
    assert told.value.exit_code == 4
    assert "dashboard" not in told.value.message
    assert len(told.value.message) < 400


def test_a_temporary_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match=r"No such file or directory: .*/gone/.*TMPDIR"):
        send(lambda _: None)


def test_a_disk_that_is_full_when_ray_packs_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client makes an archive of what it is given, in the same place."""

    class Client:
        def submit_job(self, **_: Any) -> str:
            full(Path())
            return "raysubmit_1"

    monkeypatch.setattr(submit, "_Client", lambda _: Client())
    with pytest.raises(StorageError, match="No space left on device"):
        send(lambda _: None)


def test_what_was_packed_is_there_while_it_is_sent_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    class Client:
        def submit_job(self, runtime_env: dict[str, Any], **_: Any) -> str:
            seen.append(Path(runtime_env["working_dir"], "job.yaml"))
            assert seen[0].read_text(encoding="utf-8") == "{}"
            return "raysubmit_1"

    monkeypatch.setattr(submit, "_Client", lambda _: Client())

    def pack(folder: Path) -> None:
        (folder / "job.yaml").write_text("{}", encoding="utf-8")

    assert send(pack) == 0
    assert not seen[0].parent.exists()
