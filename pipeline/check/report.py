"""What verification found, check by check."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

EXAMPLES = 3
"""Places named in a check's detail; the count tells how many there are."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question asked of the published data."""

    name: str
    passed: bool | None  # None: could not be checked, `detail` says why
    detail: str  # one sentence, with the first few places where it failed
    count: int  # places where it failed, or that could not be checked; 0 where all is well


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one snapshot, in the order they were made."""

    output: str
    version: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing that could be checked is wrong."""
        return all(check.passed is not False for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that found something wrong."""
        return tuple(check for check in self.checks if check.passed is False)

    def to_json(self) -> str:
        """One JSON object: output, version, passed, checks."""
        return json.dumps(
            {
                "output": self.output,
                "version": self.version,
                "passed": self.passed,
                "checks": [asdict(check) for check in self.checks],
            },
            ensure_ascii=False,
        )


@dataclass(slots=True)
class Findings:
    """Faults by check, gathered while reading; one per thread, merged at the end."""

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, check: str, place: str, count: int = 1) -> None:
        """Note a fault of `check` at `place`; `count` of them at once."""
        self.counts[check] += count
        examples = self.places.setdefault(check, [])
        if len(examples) < EXAMPLES:
            examples.append(place)

    def merge(self, other: "Findings") -> None:
        """Take over what another reader found."""
        self.counts.update(other.counts)
        for check, places in other.places.items():
            examples = self.places.setdefault(check, [])
            examples.extend(places[: EXAMPLES - len(examples)])

    def check(self, name: str, well: str) -> Check:
        """The verdict on `name`: `well` says what was looked at when nothing is wrong."""
        count = self.counts[name]
        if not count:
            return Check(name, True, well, 0)
        return Check(name, False, _listed(self.places[name], count), count)


def unchecked(name: str, reason: str, places: Sequence[str] = ()) -> Check:
    """A check that could not be made."""
    detail = f"{reason}: {_listed(places[:EXAMPLES], len(places))}" if places else reason
    return Check(name, None, detail, max(1, len(places)))


def _listed(examples: Sequence[str], count: int) -> str:
    more = count - len(examples)
    return "; ".join(examples) + (f"; and {more} more" if more > 0 else "")
