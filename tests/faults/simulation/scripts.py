"""Stories told on purpose: what hardly ever comes together by chance, and shows what a rule of the protocol is for."""

from collections.abc import Callable

from faults.simulation.commands import Command

LOG = "_embedpipe/log/"


def given_up_early() -> list[Command]:
    """Rows are tried again, and that is given up, while a run is about to publish them as they were."""
    return [
        Command("run", "run0", lull=LOG),
        Command("retry", "retry1"),
        Command("run", "run2"),
        Command("gc", "gc3", abandon=True),
    ]


def marked_early() -> list[Command]:
    """A collection finds everything in order while a run that could not take the mark away is about to make files; it dies over
    that, and what it made them for is undone."""
    return [
        Command("run", "run0", may_delete=False),
        Command("change", "user", waits=True),
        Command("run", "run1", may_delete=False, lull="data/", fated=LOG),
        Command("gc", "gc2"),
        Command("undo", "user", waits=True),
    ]


def marked_late() -> list[Command]:
    """A run sets the mark, long after it found everything in order, while one that could not take it away is about to publish."""
    return [
        Command("run", "run0", lull="_SUCCESS"),
        Command("change", "user"),
        Command("run", "run1", may_delete=False, allow_drop=True, lull=LOG),
    ]


def marked_too_late() -> list[Command]:
    """The same, and meanwhile others have published, perhaps without another file of data."""
    return [
        Command("run", "run0", lull="_SUCCESS"),
        Command("change", "user"),
        Command("run", "run1", allow_drop=True),
        Command("change", "user"),
        Command("run", "run2", allow_drop=True),
    ]


def strayed() -> list[Command]:
    """A run makes a file when others have published long since, and dies over that beside their mark."""
    return [
        Command("run", "run0"),
        Command("change", "user", waits=True),
        Command("run", "run1", allow_drop=True, lull="data/", dies_after="data/"),
        Command("run", "run2", allow_drop=True),
        Command("gc", "gc3", waits=True),
    ]


def asked_beside_a_collection() -> list[Command]:
    """Rows are to be tried again while a collection gives up what is staged of them."""
    return [
        Command("run", "run0", dies_after=LOG),
        Command("retry", "retry1", waits=True, lull="_embedpipe/unit/"),
        Command("gc", "gc2"),
    ]


def taken_away() -> list[Command]:
    """A run dies when everything is made, and something outside takes some of it away."""
    return [
        Command("run", "run0", fated=LOG),
        Command("take", "outsider", waits=True),
        Command("retry", "retry1", waits=True),
        Command("run", "run2", fated="data/", waits=True),
        Command("take", "outsider", waits=True),
        Command("run", "run3", waits=True),
    ]


def changed_beside_a_collection() -> list[Command]:
    """A collection takes its time to look, and meanwhile a file changes and is worked."""
    return [
        Command("run", "run0"),
        Command("gc", "gc1", dozes="_embedpipe/part/", waits=True),
        Command("change", "user"),
        Command("run", "run2", allow_drop=True, lull=LOG),
    ]


def answer_taken_away() -> list[Command]:
    """Something outside takes away what was made of rows that were to be tried again."""
    return [
        Command("run", "run0"),
        Command("retry", "retry1", waits=True),
        Command("run", "run2", fated="data/", waits=True),
        Command("take", "outsider", waits=True),
        Command("run", "run3", waits=True),
    ]


def appended_beside_a_group() -> list[Command]:
    """A run appends where small files were grouped before: one of a group changes, another one isn't listed any more."""
    changes = [Command("change", "user", waits=True)] * 3
    return [
        Command("run", "run0"),
        *changes,
        Command("run", "run1", append=True, allow_drop=True, waits=True),
        *changes,
        Command("run", "run2", append=True, allow_drop=True, waits=True),
    ]


SCRIPTS: tuple[Callable[[], list[Command]], ...] = (
    given_up_early,
    marked_early,
    marked_late,
    marked_too_late,
    strayed,
    asked_beside_a_collection,
    taken_away,
    answer_taken_away,
    appended_beside_a_group,
    changed_beside_a_collection,
)
TAKING = (taken_away, answer_taken_away)
