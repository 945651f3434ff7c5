"""A throw-away process may not take the machine's last memory with it."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.flow import memory_limit
from pipeline.flow.memory_limit import AT_LEAST_BYTES, room_bytes

GIB = 1 << 30

EATER = """
    from pipeline.flow import memory_limit

    memory_limit.room_bytes = lambda: 300 << 20
    import torch

    print(memory_limit.limit_memory() >> 20, "MiB")
    torch.empty(100 << 20, dtype=torch.uint8).fill_(1)
    try:
        torch.empty(400 << 20, dtype=torch.uint8).fill_(1)
    except RuntimeError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_tensor_beyond_the_limit_raises_and_one_within_does_not() -> None:
    """The words are those by which the encoder, and whoever tries texts apart, know that memory is short."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EATER)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout.startswith("300 MiB\n"), ran.stderr
    assert "can't allocate memory" in ran.stdout, ran.stderr


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with 100 GiB, 60 of them free; its control groups are empty."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {100 << 20} kB\nMemFree: 5 kB\nMemAvailable: {60 << 20} kB\n")
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(memory_limit, "PROC", tmp_path)
    monkeypatch.setattr(memory_limit, "CGROUP", tmp_path)
    return tmp_path


def test_a_tenth_of_the_machine_is_left_to_others(machine: Path) -> None:
    assert room_bytes() == 50 * GIB


@pytest.mark.parametrize(
    ("most", "used"),
    [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")],
)
def test_a_container_has_less(machine: Path, most: str, used: str) -> None:
    """The machine has plenty, and the container's share ends the process all the same."""
    (machine / most).write_text(f"{20 * GIB}\n")
    (machine / used).write_text(f"{12 * GIB}\n")
    assert room_bytes() == 6 * GIB


@pytest.mark.parametrize(
    ("most", "used", "statistics"),
    [
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ],
)
@pytest.mark.parametrize(("cached", "room"), [(7, 13), (12, 18), (30, 18)])
def test_files_that_the_system_keeps_in_memory_are_room(
    machine: Path, most: str, used: str, statistics: str, cached: int, room: int
) -> None:
    """Who reads and writes Parquet fills its container with them: there'd be no room for healthy long texts."""
    prefix = "total_" if "/" in most else ""
    (machine / most).write_text(f"{20 * GIB}\n")
    (machine / used).write_text(f"{12 * GIB}\n")
    fields = {"anon": 5, "file": 9, f"{prefix}inactive_file": cached - 2, f"{prefix}active_file": 2}
    (machine / statistics).write_text("".join(f"{name} {gib * GIB}\n" for name, gib in fields.items()))
    assert room_bytes() == room * GIB


def test_a_container_whose_statistics_cannot_be_read_has_less_all_the_same(machine: Path) -> None:
    (machine / "memory.max").write_text(f"{20 * GIB}\n")
    (machine / "memory.current").write_text(f"{12 * GIB}\n")
    (machine / "memory.stat").write_text("\n")
    assert room_bytes() == 6 * GIB


def test_a_container_without_a_limit_is_the_machine(machine: Path) -> None:
    (machine / "memory.max").write_text("max\n")
    assert room_bytes() == 50 * GIB


def test_something_is_always_granted(machine: Path) -> None:
    """A limit below what is taken already would end the process over a healthy text."""
    (machine / "meminfo").write_text(f"MemTotal: {100 << 20} kB\nMemAvailable: {1 << 20} kB\n")
    assert room_bytes() == AT_LEAST_BYTES
