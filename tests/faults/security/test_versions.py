"""Versions: floors in pyproject.toml, pins in constraints.txt, and the audit of what is installed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from jobs.audit import Advisory, affected, installed, main, read_advisories

PROJECT = Path(__file__).parents[3]
DEPENDENCIES = [
    Requirement(text) for text in tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
]
FLOORS = {
    "ray": "2.56", "pyarrow": "26", "transformers": "5.3", "sentence-transformers": "6", "torch": "2.6", "aiohttp": "3.14.4",
    "urllib3": "2.6",
}  # fmt: skip


def floor(package: str) -> Version:
    """The oldest version that pyproject.toml allows."""
    (requirement,) = [one for one in DEPENDENCIES if canonicalize_name(one.name) == package]
    (lowest,) = [one for one in requirement.specifier if one.operator == ">="]
    return Version(lowest.version)


def pins() -> dict[str, str]:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    return {line.partition("==")[0]: line.partition("==")[2] for line in lines if "==" in line}


@pytest.mark.parametrize("package", FLOORS)
def test_no_version_with_a_known_hole_can_be_installed(package: str) -> None:
    assert floor(package) >= Version(FLOORS[package])


@pytest.mark.parametrize("advisory", read_advisories(), ids=lambda advisory: advisory.id)
def test_floor_and_pin_are_beyond_every_advisory(advisory: Advisory) -> None:
    assert not advisory.affects(str(floor(advisory.package)))
    assert not advisory.affects(pins()[advisory.package])
    assert advisory.source.startswith("https://")


def test_what_is_installed_here_is_affected_by_nothing() -> None:
    assert list(affected(installed(), read_advisories())) == []
    assert main([]) == 0


def test_an_old_version_is_told_with_its_advisory_and_ends_the_audit_with_1(tmp_path: Path) -> None:
    for name, version in (("Ray", "2.50.0"), ("pyarrow", "26.0.0"), ("urllib3", "2.5.0+local")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "jobs.audit", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "CVE-2026-57516", "CVE-2026-41486", "CVE-2026-27482", "CVE-2025-62593", "CVE-2025-66418", "CVE-2025-66471",
    ]  # fmt: skip
    assert "fixed in 2.56.0" in lines[0]
    assert last.startswith("3 distributions, ")


def test_a_version_from_before_a_weakness_came_in_is_not_affected() -> None:
    advisory = Advisory("X", "ray", "2.55", "x", "https://x", since="2.49")
    assert [advisory.affects(version) for version in ("2.48.0", "2.49.0", "2.54.1", "2.55.0", "2.55.0rc1")] == [
        False, True, True, False, True,
    ]  # fmt: skip
