"""Steps beside each other: the same items, in the same order, whatever happens in which thread."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.overlap import ahead, behind

DEPTHS = st.integers(0, 4)


@given(st.lists(st.integers()), DEPTHS, DEPTHS)
def test_both_give_what_plain_loops_give(items: list[int], before: int, after: int) -> None:
    assert list(behind(lambda item: item * 2, ahead(items, before), after)) == [item * 2 for item in items]


@given(st.lists(st.integers(0, 9), min_size=1), DEPTHS, DEPTHS)
def test_what_is_raised_comes_out_behind_everything_before_it(items: list[int], before: int, after: int) -> None:
    def made() -> Iterator[int]:
        for item in items:
            if item == 3:
                raise ValueError(item)
            yield item

    def step(item: int) -> int:
        if item == 7:
            raise LookupError(item)
        return item

    found, wrong = [], None
    try:
        for item in behind(step, ahead(made(), before), after):
            found.append(item)  # noqa: PERF402 - kept when the next one raises
    except (ValueError, LookupError) as error:
        wrong = error.args[0]
    good = [item for item in items if item not in (3, 7)]
    assert found == good[: len(found)]
    if wrong is None:
        assert found == items
    elif wrong == 7:
        assert found == items[: items.index(7)]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_so_many_are_made_before_they_are_asked_for_and_no_more(depth: int) -> None:
    """More would be memory without a bound."""
    made: list[int] = []
    enough = threading.Semaphore(0)

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            enough.release()
            yield number

    items = ahead(source(), depth)
    assert next(items) == 0
    for _ in range(1 + depth):
        assert enough.acquire(timeout=10)
    assert not enough.acquire(timeout=0.05)
    items.close()
    assert len(made) == 1 + depth


def test_what_was_taken_is_worked_on_also_when_nobody_asks_any_more() -> None:
    """A unit that is encoded is staged."""
    done: list[int] = []
    results = behind(lambda item: done.append(item) or item, iter(range(10)), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert done == list(range(len(done)))
    assert len(done) >= 1


def test_reading_goes_on_while_the_caller_works() -> None:
    """Each waits for the other: with one after the other neither would ever end."""
    read, worked = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        assert worked.wait(10)
        read.set()
        yield 1

    for item in ahead(source(), 1):
        if item == 0:
            worked.set()
            assert read.wait(10)
