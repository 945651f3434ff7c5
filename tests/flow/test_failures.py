"""What is tried again in which company, without a run."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from pipeline.flow.acks import Ack
from pipeline.flow.failures import Failures


def failed(segment: str, uri: str) -> Ack:
    return Ack(state="failed", unit=segment, segment=segment, uri=uri, message=f"{uri}: torn")


def work(segment: str, *uris: str) -> Any:
    return SimpleNamespace(id=segment, pieces=[SimpleNamespace(uri=uri) for uri in uris])


def planned(*, version: int = 1, pending: Sequence[Any] = (), **again: str) -> Any:
    """again: segment of the head that is worked again → its files."""
    units = [
        SimpleNamespace(segment=segment, pieces=[SimpleNamespace(uri=uri) for uri in uris])
        for segment, uris in again.items()
    ]
    return SimpleNamespace(again=units, version=version, plan=SimpleNamespace(pending=pending))


def test_a_file_of_a_group_that_broke_up_under_the_run_is_tried_alone() -> None:
    """Its old company would be given up as a whole without ever being tried file by file: a healthy file, named by nobody."""
    failures = Failures()
    assert not failures.take(failed("abcd", "d"), work("abcd", *"abcd"), planned(abc="abc"))
    assert failures.apart == [frozenset("d"), frozenset("abc")]
    # a and b were written over meanwhile, so that they have no company in the head any more
    assert not failures.take(failed("a2b2c", "b"), work("a2b2c", *"abc"), planned())
    assert failures.apart == [*map(frozenset, "abcd"), frozenset("abc")]
    assert failures.take(failed("b2", "b"), work("b2", "b"), planned())
    assert set(failures.segments) == {"b2"}


def test_what_the_head_has_together_is_given_up_together_once_it_was_tried() -> None:
    failures = Failures()
    assert not failures.take(failed("fgx", "f"), work("fgx", *"fgx"), planned(fg="fg"))
    assert failures.apart == [frozenset("x"), frozenset("fg")]
    assert failures.take(failed("fg", "f"), work("fg", *"fg"), planned(fg="fg"))
    assert set(failures.segments) == {"fg"}


def test_nothing_is_tried_in_the_same_company_for_ever() -> None:
    failures = Failures()
    assert not failures.take(failed("ab", "a"), work("ab", *"ab"), planned())
    assert failures.take(failed("ab", "a"), work("ab", *"ab"), planned())


def test_what_was_given_up_for_the_sake_of_one_head_is_tried_apart_once_another_head_is_without_it() -> None:
    """Another run published rows of another spec over those that were to be worked again. The group would go as a whole, though
    one of its files alone is at fault, and nobody would name the other."""
    failures = Failures()
    group = work("fg", *"fg")
    assert failures.take(failed("fg", "g"), group, planned(fg="fg"))
    assert failures.to_try(planned(pending=[group])) == []
    overtaken = planned(version=2, pending=[group])
    assert failures.to_try(overtaken) == [group]
    assert failures.files(overtaken) == {}
    assert not failures.take(failed("fg", "g"), group, overtaken)
    assert failures.apart == [frozenset("f"), frozenset("g")]
    alone = work("g", "g")
    assert failures.take(failed("g", "g"), alone, overtaken)
    apart = planned(version=2, pending=[alone])
    assert failures.to_try(apart) == []
    assert failures.files(apart) == {"g": "torn"}
