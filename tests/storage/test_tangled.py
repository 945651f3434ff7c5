"""Folders that links lead to in more ways than can be walked."""

import re
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.storage.inputs import expand


def tangle(folder: Path, levels: int) -> Path:
    """Two links on each level lead to the next one, and the last has a file. Gives the first level."""
    for level in range(levels):
        here = folder / f"{level:02}"
        here.mkdir()
        for name in "ab":
            (here / name).symlink_to(f"../{level + 1:02}")
    (folder / f"{levels:02}").mkdir()
    (folder / f"{levels:02}" / "a.txt").write_bytes(b"1")
    return folder / "00"


@pytest.mark.parametrize("levels", [10, 40])
@pytest.mark.parametrize("pattern", ["", "/**/*.txt"])
def test_links_that_double_the_ways_on_each_level_are_refused_at_once(
    tmp_path: Path, levels: int, pattern: str
) -> None:
    """None of them leads round in a circle; forty levels are a million million paths of one file, which nobody lives to list."""
    message = rf"{re.escape(str(tmp_path))}/{levels:02}: links lead to this folder in more than 1,000 ways, of which .*; remove"
    with pytest.raises(InputError, match=message):
        expand([f"{tangle(tmp_path, levels)}{pattern}"])


def test_what_several_links_lead_to_is_found_by_each_of_them(tmp_path: Path) -> None:
    assert len(expand([str(tangle(tmp_path, 9))])) == 2**9


def test_any_number_of_folders_that_no_link_leads_to_is_walked(tmp_path: Path) -> None:
    """And a thousand links to as many folders."""
    for number in range(1100):
        (tmp_path / "real" / f"{number}").mkdir(parents=True)
        (tmp_path / "real" / f"{number}" / "a.txt").write_bytes(b"1")
    (tmp_path / "in").mkdir()
    for number in range(1100):
        (tmp_path / "in" / f"{number}").symlink_to(tmp_path / "real" / f"{number}")
    assert len(expand([str(tmp_path / "in")])) == 1100
    assert len(expand([str(tmp_path / "real")])) == 1100
