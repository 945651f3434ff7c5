"""Broken variants of what readers rely on: the head, and `_SUCCESS`."""

from collections.abc import Sequence

from faults.simulation.binding import Replacement
from faults.simulation.mutation import mutant, put, rewrite

from pipeline.commit import collect, snapshot, success
from pipeline.flow import publishing


@mutant("A reader takes a manifest that is gone for damage at once.")
def head_read_once() -> Sequence[Replacement]:
    return rewrite(snapshot.read_head, ("if versions[-1] == last_seen:", "if True:"))


@mutant("The mark stands while data/ changes.")
def mark_not_cleared() -> Sequence[Replacement]:
    return rewrite(publishing._unmarked, ("    clear_success(store)\n    try:", "    try:"))


@mutant("A mark that can't be removed just now is left.")
def mark_left_on_error() -> Sequence[Replacement]:
    return rewrite(
        success.clear_success, ("if is_own(error):\n            raise", "if is_own(error):\n            return")
    )


@mutant("A mark that has become wrong is left.")
def wrong_mark_left() -> Sequence[Replacement]:
    return rewrite(
        success.settle_success, ("        clear_success(store)\n        return False", "        return False")
    )


@mutant("The mark is set on one look.")
def mark_set_on_one_look() -> Sequence[Replacement]:
    return rewrite(success.settle_success, ("and newest(store) == head.version and is_exact(store, files)", ""))


@mutant("The mark is set whatever data/ holds.")
def mark_without_look() -> Sequence[Replacement]:
    return put(success.is_exact, lambda store, files: True)


@mutant("The mark is set without another look at the log.")
def mark_without_newest() -> Sequence[Replacement]:
    return rewrite(success.settle_success, ("newest(store) == head.version and ", ""))


@mutant("The mark is set without another look at data/.")
def mark_without_last_look() -> Sequence[Replacement]:
    return rewrite(success.settle_success, (" and is_exact(store, files):", ":"))


@mutant("A collection takes files out of data/ beside the mark.")
def mark_beside_collection() -> Sequence[Replacement]:
    return rewrite(collect.collect, ("if any(key.startswith(DATA) for key in keys):", "if False:"))


@mutant("A version is published beside the mark.")
def mark_beside_publication() -> Sequence[Replacement]:
    return rewrite(snapshot.publish, ("    clear_success(store)\n", ""))
