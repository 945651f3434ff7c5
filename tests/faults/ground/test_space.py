"""Space, file handles and threads run out: the run ends and says of what, and with more of it the next one ends well."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.ground.running import config_of, exact, run
from faults.ground.scenarios import Ground, disk_is_full, handles_run_out, threads_run_out

from pipeline.errors import StorageError

REASONS = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "quota",
    errno.EROFS: "read-only",
    errno.EFBIG: "File too large",
    errno.EIO: "Input/output error",
}
HANDLES = [("parquet", 0, 1), ("jsonl", 0, 90), ("csv", 1, 120), ("txt", 2, 150)]


@pytest.mark.parametrize(("number", "words"), REASONS.items(), ids=lambda value: errno.errorcode.get(value, ""))
def test_a_disk_that_takes_no_more_ends_the_run_and_the_next_one_goes_on(
    ground: Ground, number: int, words: str
) -> None:
    proof = disk_is_full(ground, number, 40 + number)
    assert proof.struck
    assert proof.first.code == StorageError.exit_code, proof
    assert words in proof.first.message
    assert proof.right, proof


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs isn't allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_real_disk_that_fills_up_holds_nothing_half_and_goes_on_with_space(ground: Ground, small_disk: Path) -> None:
    world = ground.world("parquet")
    config = config_of(world, str(small_disk / "out"), ground.model)
    outcome = run(config)
    assert outcome.code == StorageError.exit_code, outcome
    assert "no space left on the disk" in outcome.message
    for path in (small_disk / "out").rglob("*.parquet"):
        assert path.read_bytes()[-4:] == b"PAR1", f"{path} is half a file"
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    assert run(config).code == 0
    assert exact(config, world, ground.model).right


@pytest.mark.parametrize(("kind", "left", "moment"), HANDLES)
def test_file_handles_that_run_out_end_the_run_or_do_not_matter(
    ground: Ground, kind: str, left: int, moment: int
) -> None:
    proof = handles_run_out(ground, kind, left, moment)
    assert proof.struck
    assert proof.right, proof
    if left == 0:
        assert "Too many open files" in proof.first.message


@pytest.mark.parametrize("moment", [1, 2])
def test_threads_that_run_out_end_the_run(ground: Ground, moment: int) -> None:
    proof = threads_run_out(ground, moment)
    assert proof.struck
    assert proof.right, proof
    assert proof.first.code == 4


def test_handles_and_limits_are_as_they_were(ground: Ground) -> None:
    """Or the tests after these would suffer."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    handles_run_out(ground, "csv", 1, 60)
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208
