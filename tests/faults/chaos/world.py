"""An input that changes between runs, and what each of its states holds."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = ("rivers", "engines", "letters", "winters", "gardens", "tables", "stones", "harbours", "violins", "lanterns")


KEPT = ("shelf", "edition")
"""Columns carried to the output as they are; `shelf` is null now and then."""


@dataclass(frozen=True)
class State:
    """What the input holds between two changes of it."""

    number: int  # 0 for the first
    texts: Mapping[str, str]  # by id, with the prompt they are embedded with
    kept: Mapping[str, Mapping[str, Any]]  # id → kept column → value

    def prompted(self, prompt: str) -> "State":
        """The same input under another spec."""
        return State(self.number, {row: prompt + text for row, text in self.texts.items()}, self.kept)


class World:
    """Files of JSON lines in a folder. `states`: the first, the second …"""

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder = folder
        self.states: list[State] = []
        self._random = random.Random(seed)
        self._files: dict[str, list[dict[str, Any]]] = {}
        folder.mkdir(parents=True)

    def begin(self, files: int, rows: int) -> None:
        """The first state: so many files of about so many rows."""
        for number in range(files):
            self._write(f"{number:03}.jsonl", self._random.randint(rows // 2, rows * 3 // 2), 0)
        self._note()

    def move(self, rows: int) -> None:
        """The next state: a file more, a file less, and one with other texts under the same ids."""
        names = sorted(self._files)
        changed, removed = self._random.sample(names, 2)
        self._write(changed, len(self._files[changed]), len(self.states))
        (self.folder / removed).unlink()
        del self._files[removed]
        for number in range(2):
            self._write(f"new-{len(self.states)}-{number}.jsonl", rows, len(self.states))
        self._note()

    @property
    def rows(self) -> int:
        """Rows of the newest state."""
        return len(self.states[-1].texts)

    def _write(self, name: str, count: int, edition: int) -> None:
        word = self._random.choice
        rows = [
            {
                "id": f"{name}-{row}",
                "text": f"row {row} of {name} edition {edition} speaks of {word(WORDS)} and {word(WORDS)}",
                "shelf": f"{name} {row // 3}" if row % 5 else None,
                "edition": edition,
            }
            for row in range(count)
        ]
        self._files[name] = rows
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        temporary = self.folder.parent / f"{name}.tmp"
        temporary.write_text(lines)
        temporary.replace(self.folder / name)

    def _note(self) -> None:
        rows = [row for file in self._files.values() for row in file]
        texts = {row["id"]: row["text"] for row in rows}
        kept = {row["id"]: {name: row[name] for name in KEPT} for row in rows}
        self.states.append(State(len(self.states), texts, kept))
