"""Tracebacks in what a run has said: the program's own, which there must never be, and those that Ray logs by itself.

Ray Data shows one for each task that it has given up, whatever comes of that; it is set apart, and counted too.
"""

import re
from dataclasses import dataclass

BEGIN = "Traceback (most recent call last)"
RAY_RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\t(ERROR|WARNING|INFO|DEBUG) ")
"""How a record of Ray's own Python logs begins."""

GOES_ON = ("During handling of the above exception", "The above exception was the direct cause")
"""What joins the tracebacks of one chain of exceptions."""


@dataclass(frozen=True)
class Tracebacks:
    """How many chains of them there are, and whose."""

    own: int = 0
    of_ray: int = 0


def tracebacks(told: str) -> Tracebacks:
    """Ray's is what follows at once on the first line of a record of Ray's; whatever can't be told counts as the program's."""
    own = of_ray = 0
    before = ""
    for line in filter(str.strip, told.splitlines()):
        if BEGIN in line and not before.strip().startswith(GOES_ON):
            is_rays = RAY_RECORD.match(before) is not None and line.startswith(BEGIN)
            of_ray, own = of_ray + is_rays, own + (not is_rays)
        before = line
    return Tracebacks(own, of_ray)
