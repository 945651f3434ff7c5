"""Steps that run beside each other in threads of one process: one is ahead of the caller, one is behind it.

What they do is in C++ or waits for a store, so that the interpreter's lock is no hindrance. Whatever a step raises comes out
in the caller, in its turn.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T], depth: int) -> Generator[T]:
    """The same items in the same order, made in a thread while the caller is busy with those before.

    depth: how many are made before the caller asks for them, the one being made included; 0: none, and no thread.
    """
    source, end = iter(items), object()
    if depth == 0:
        yield from source
        return
    with ThreadPoolExecutor(1, "ahead") as thread:
        made: deque[Future[T | object]] = deque(thread.submit(next, source, end) for _ in range(depth))
        try:
            while (item := made.popleft().result()) is not end:
                made.append(thread.submit(next, source, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(wait=False, cancel_futures=True)


def behind(step: Callable[[T], R], items: Iterable[T], depth: int, threads: int = 1) -> Iterator[R]:
    """What `step` makes of the items, in their order, each in a thread while the caller makes the next item.

    depth: how many items may wait or be worked on; 0: none, and no thread. Everything that was taken from `items` is worked
    on, also when the caller stops asking.
    """
    if depth == 0:
        yield from map(step, items)
        return
    with ThreadPoolExecutor(threads, "behind") as pool:
        pending: deque[Future[R]] = deque()
        for item in items:
            pending.append(pool.submit(step, item))
            while pending and (len(pending) > depth or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
