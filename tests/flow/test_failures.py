"""What is tried again in which company, without a run."""

from types import SimpleNamespace
from typing import Any

from pipeline.flow.acks import Ack
from pipeline.flow.failures import Failures


def failed(segment: str, uri: str) -> Ack:
    return Ack(state="failed", unit=segment, segment=segment, uri=uri, message=f"{uri}: torn")


def work(segment: str, *uris: str) -> Any:
    return SimpleNamespace(id=segment, pieces=[SimpleNamespace(uri=uri) for uri in uris])


def planned(**again: str) -> Any:
    """again: segment of the head that is worked again → its files."""
    units = [
        SimpleNamespace(segment=segment, pieces=[SimpleNamespace(uri=uri) for uri in uris])
        for segment, uris in again.items()
    ]
    return SimpleNamespace(again=units)


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
