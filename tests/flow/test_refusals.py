"""When a run gives up because nothing is taken any more."""

from itertools import pairwise

from pipeline.errors import EmbedpipeError, StorageError, TransientStorageError
from pipeline.flow.acks import Ack, AckState
from pipeline.flow.refusals import MOST, PATIENCE_S, Refusals


def ack(state: AckState, error: EmbedpipeError | None = None) -> Ack:
    return Ack(state, "", "", "", error=error)


REFUSED = ack("error", StorageError("no space left"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_takes_several_units_and_some_time() -> None:
    """A machine that lacks something fails fast, while the others are at units of a minute each."""
    clock = Clock()
    refusals = Refusals(clock)
    assert not any(refusals.are_too_many(REFUSED) for _ in range(3 * MOST))
    clock.now = PATIENCE_S
    assert refusals.are_too_many(REFUSED)

    clock, few = Clock(), 0
    slow = Refusals(clock)
    while not slow.are_too_many(REFUSED):
        few += 1
        clock.now += PATIENCE_S
    assert few == MOST - 1


def test_a_unit_that_is_done_begins_the_count_anew() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for before, now in pairwise(range(5 * MOST)):
        clock.now = now * PATIENCE_S
        assert not refusals.are_too_many(ack("done") if before % (MOST - 1) == 0 else REFUSED)


def test_what_may_pass_is_waited_for() -> None:
    """A store that is away for an hour costs that hour, not the night."""
    clock = Clock()
    refusals = Refusals(clock)
    away = ack("error", TransientStorageError("the store was away"))
    for _ in range(3 * MOST):
        clock.now += PATIENCE_S
        assert not refusals.are_too_many(away)
        assert not refusals.are_too_many(ack("failed", StorageError("of its input")))
