"""Which requests go wrong, and how: rules that are tried in turn, with seeded chance, and counts of what they did."""

import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from faults.store.wire import Message

FAULTS = frozenset(
    {
        "reset",  # the connection is cut before the store hears of the request
        "reset body",  # … in the middle of the answer's body
        "lost",  # … after the store did as it was asked: the answer never comes
        "late",  # … and the store hears of the request only then, `seconds` later
        "truncated",  # the body ends in good order, but short of the length announced
        "stalled",  # half of the body, then nothing for `seconds`
        "drip",  # the body in small pieces, over `seconds`
        "flipped",  # one bit of the answer's body is another
        "flipped upload",  # one bit of the request's body is another
        "unconditional",  # the store doesn't hear of If-None-Match
        "hidden",  # what is missing is answered as forbidden
        "undeletable",  # 200, and in its body that nothing was deleted
    }
)
"""Besides these a fault may be an answer, status and code, as in "503 SlowDown"."""

ANSWER = re.compile(r"\d{3} \w+")
OBJECT = r"^[^?]*$"
"""Path of a request for an object as a whole or in part, not for a listing or a deletion."""


@dataclass(frozen=True)
class Rule:
    """`fault` happens to this share of the requests whose method, path and headers fit."""

    fault: str
    method: str = ""  # regular expressions; an empty one fits all
    path: str = ""
    header: str = ""  # searched in "name: value" lines
    share: float = 1.0
    after: int = 0  # so many fitting requests go well first
    times: int | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.fault not in FAULTS and not ANSWER.fullmatch(self.fault):
            raise ValueError(f"there is no fault {self.fault!r}")

    def fits(self, request: Message) -> bool:
        return (
            re.fullmatch(self.method or ".*", request.method) is not None
            and re.search(self.path, request.target) is not None
            and any(re.search(self.header, f"{name.lower()}: {value}") for name, value in (*request.headers, ("", "")))
        )


class Script:
    """The rules in force, what they have done, and what was asked. One for a proxy; usable from any thread."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.set([], seed)

    def set(self, rules: Sequence[Rule], seed: int = 0, lasting: float = math.inf) -> None:
        """Other rules from now on, for so many seconds; all counts begin anew."""
        with self._lock:
            self._until = time.monotonic() + lasting
            self._rules = tuple(rules)
            self._random = random.Random(seed)
            self._fitting = [0] * len(self._rules)
            self._done = [0] * len(self._rules)
            self.injected: Counter[str] = Counter()
            self.requests: Counter[str] = Counter()

    def pick(self, request: Message) -> Rule | None:
        """The rule that strikes this request: the first whose turn and chance it is."""
        with self._lock:
            self.requests[request.method] += 1
            if time.monotonic() > self._until:
                return None
            for number, rule in enumerate(self._rules):
                if not rule.fits(request):
                    continue
                self._fitting[number] += 1
                used_up = rule.times is not None and self._done[number] >= rule.times
                if used_up or self._fitting[number] <= rule.after or self._random.random() >= rule.share:
                    continue
                self._done[number] += 1
                return rule
        return None

    def count(self, fault: str) -> None:
        """Note that a fault did happen: some can't to every answer, as there is no middle of an empty body."""
        with self._lock:
            self.injected[fault] += 1

    def draw(self, below: int) -> int:
        """A number from 0 on, for the place of a fault."""
        with self._lock:
            return self._random.randrange(below)
