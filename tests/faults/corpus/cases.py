"""All cases by name."""

from faults.corpus import bombs, columns, cut, lies, lines, packed, places, tables
from faults.corpus.case import Case

_ROOMS = (cut, lines, tables, packed, columns, lies, places, bombs)


def _gather() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for room in _ROOMS:
        for case in room.cases():
            assert case.name not in found, case.name
            found[case.name] = case
    return found


CASES = _gather()
