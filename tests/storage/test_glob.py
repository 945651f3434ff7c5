"""Globs as pure text."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.glob import compile_glob, fixed_start, has_wildcards, split_root

CHARS = st.text(st.sampled_from("ab-]![*?._"), min_size=1, max_size=8)


@given(CHARS, CHARS)
def test_a_single_segment_matches_as_fnmatch_does(pattern: str, name: str) -> None:
    """For names that aren't hidden; fnmatch is the reference for sets, their ranges and unclosed brackets."""
    if name.startswith((".", "_")) or pattern == "**":
        return
    assert bool(compile_glob(pattern).fullmatch(name)) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("**/c", "c", True),
        ("**/c", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("a/**/b/**/c", "a/x/b/y/z/c", True),
        ("a/**", "b/a", False),
        ("*", "a/b", False),
        ("a*b", "a/b", False),
        ("[!x]", "/", False),
        ("a**b", "axxb", True),
        ("**", "_a/b", False),
        ("**", "a/.b", False),
        ("*", "_a", False),
        ("?a", ".a", False),
        ("[_]a", "_a", False),
        ("_*", "_a", True),
        ("a/_b/*", "a/_b/c", True),
        ("*", "a\nb", True),
        ("a.b", "axb", False),
    ],
)
def test_segments_folders_and_hidden_names(pattern: str, path: str, matches: bool) -> None:
    assert bool(compile_glob(pattern).fullmatch(path)) is matches


@pytest.mark.parametrize(
    ("pattern", "root", "rest", "start"),
    [
        ("/in/*.txt", "/in", "*.txt", ""),
        ("/in/a*/b", "/in", "a*/b", "a"),
        ("/in/2024-[01]?/x", "/in", "2024-[01]?/x", "2024-"),
        ("/*", "", "*", ""),
        ("bucket/**", "bucket", "**", ""),
        ("bucket/a/", "bucket/a", "", ""),
    ],
)
def test_the_root_ends_before_the_first_wildcard(pattern: str, root: str, rest: str, start: str) -> None:
    assert split_root(pattern) == (root, rest)
    assert fixed_start(rest) == start
    assert has_wildcards(pattern) == bool(rest)
