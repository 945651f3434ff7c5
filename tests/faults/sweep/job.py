"""The job that is swept: four source files before, four after a change, and what must come of them.

Six units, rows in four partition folders, rows that can't be embedded; after the change a file that has changed, one that is
gone, one that is new, and two that are as they were, one of them alone in its folder.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HERE = "/proc/self/cwd"
"""What a process that works in the sweep's folder calls it: a path that's the same whatever temporary folder that is. Identities
of the job's units follow from the paths of its source, and the order of operations from those."""

UNIT_ROWS = 6
FILLER = " and goes on to speak of the hills beyond, the towns below, and the long way home" * 5
"""Makes a file of five such rows bigger than those that are grouped with others."""

Row = tuple[str, str | None, str, str, int | None]
COLUMNS = ("id", "text", "lang", "origin", "number")
KEPT = ("origin", "number")
"""Carried to the output as they are: of each row something else, some of it null."""


@dataclass(frozen=True)
class Expected:
    """What the output must hold."""

    texts: dict[str, str]
    folders: dict[str, str]  # id → partition folder
    aside: frozenset[str]  # ids of quarantined rows
    kept: dict[str, dict[str, Any]]  # id → kept column → value


def rows_of(name: str, edition: int) -> list[Row]:
    """The rows of a source file."""
    languages = {"many": ("en", "de"), "gone": ("de",), "stays": ("fr",), "new": ("it",), "tiny": ("en",)}[name]
    count = {"many": 14, "tiny": 2}.get(name, 6)
    rows: list[Row] = []
    for number in range(count):
        origin = f"{name} {number} edition {edition if name == 'many' else 1}"
        text = None if name in ("many", "stays") and number == 2 else origin + ("" if name == "tiny" else FILLER)
        language = languages[number % len(languages)]
        rows.append((f"{name}-{number}", text, language, origin, None if number == 1 else number))
    return rows


EDITIONS = {1: ("many", "gone", "stays", "tiny"), 2: ("many", "new", "stays", "tiny")}


def expected(edition: int) -> Expected:
    """What a run over an edition of the source must give."""
    rows = [row for name in EDITIONS[edition] for row in rows_of(name, edition)]
    return Expected(
        texts={row: text for row, text, *_ in rows if text is not None},
        folders={row: f"lang={lang}" for row, text, lang, *_ in rows if text is not None},
        aside=frozenset(row for row, text, *_ in rows if text is None),
        kept={row: dict(zip(KEPT, kept, strict=True)) for row, text, _, *kept in rows if text is not None},
    )


class Source:
    """The input folder, a link to the edition that counts. Files that stay are the same files in both. Its own folder lies
    right below the one that the job's processes work in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for edition, names in EDITIONS.items():
            place = folder / f"edition-{edition}"
            place.mkdir(parents=True)
            for name in names:
                file = place / f"{name}.{'parquet' if name in ('gone', 'new') else 'jsonl'}"
                before = folder / "edition-1" / file.name
                if edition == 2 and name != "many" and before.exists():
                    os.link(before, file)
                else:
                    _write(file, rows_of(name, edition))
        self.show(1)

    @property
    def path(self) -> str:
        """As the swept job calls it."""
        return f"{HERE}/{self._folder.name}/in"

    def files(self) -> dict[str, str]:
        """Name → path of each version of each file, a file that stays only once."""
        found = {path.stat().st_ino: path for path in sorted(self._folder.glob("edition-*/*"), reverse=True)}
        return {f"{path.name} of {path.parent.name}": str(path) for path in found.values()}

    def show(self, edition: int) -> None:
        """Let the input be that edition."""
        link = self._folder / "link"
        link.symlink_to(f"edition-{edition}", target_is_directory=True)
        link.rename(self._folder / "in")


def _write(file: Path, rows: list[Row]) -> None:
    table: list[dict[str, Any]] = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(table), file, compression="none", use_dictionary=False)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in table))


def write_config(file: Path, source: Source, model: str) -> None:
    """The job as YAML; the output is left to the command line. Files name the model's folder, so that is below `HERE` too."""
    here = file.parent / "model"
    here.symlink_to(model, target_is_directory=True)
    config = {
        "input": {"paths": [source.path], "text": "text", "id": "id", "keep": [*KEPT]},
        "model": {"name": f"{HERE}/{here.name}"},
        "output": {"path": "set-by-the-command", "partition_by": ["lang"], "max_rejected_share": 0.5},
        "units": {"rows": UNIT_ROWS, "text_mib": 1},
        "execution": {"engine": "serial", "device": "cpu", "model_cache": str(file.parent / "models")},
    }
    file.write_text(json.dumps(config))


def run_command(config: Path, output: str) -> list[str]:
    """`embedpipe run`, as typed. The change takes away more than a tenth of the rows."""
    return ["run", "--config", str(config), "--set", f"output.path={output}", "--allow-drop"]
