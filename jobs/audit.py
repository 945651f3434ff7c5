"""What is installed here, held against the advisories of jobs/advisories.toml. Asks nobody, so it works offline.

python -m jobs.audit [FOLDER ...]   (FOLDER: where distributions are installed, default this Python's own)
"""

import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

ADVISORIES = Path(__file__).with_name("advisories.toml")


@dataclass(frozen=True, slots=True)
class Advisory:
    """A known weakness of a package."""

    id: str
    package: str
    fixed: str  # the first version without it
    what: str
    source: str  # URL
    since: str = "0"  # the first version with it

    def affects(self, version: str) -> bool:
        """Whether this version has it. A build's own mark, as in 2.13.0+cpu, doesn't count."""
        return Version(self.since) <= Version(Version(version).public) < Version(self.fixed)


def read_advisories(path: Path = ADVISORIES) -> list[Advisory]:
    """All that are known."""
    return [Advisory(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["advisory"]]


def installed(folders: Sequence[str] | None = None) -> dict[str, str]:
    """Name → version of the distributions here, or in folders. The first one found counts, as for an import."""
    found: dict[str, str] = {}
    for one in distributions(path=list(folders)) if folders else distributions():
        found.setdefault(canonicalize_name(one.metadata["Name"]), one.version)
    return found


def affected(versions: Mapping[str, str], advisories: Sequence[Advisory]) -> Iterator[tuple[Advisory, str]]:
    """Advisories that hold for these versions, and the version."""
    for advisory in advisories:
        version = versions.get(canonicalize_name(advisory.package))
        if version is not None and advisory.affects(version):
            yield advisory, version


def main(folders: Sequence[str]) -> int:
    """1 when something installed is affected."""
    versions, advisories = installed(folders or None), read_advisories()
    found = list(affected(versions, advisories))
    for advisory, version in found:
        print(
            f"{advisory.package} {version}: {advisory.id}: {advisory.what}; fixed in {advisory.fixed} ({advisory.source})"
        )
    print(f"{len(versions)} distributions, {len(advisories)} advisories, {len(found)} of them hold here")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
