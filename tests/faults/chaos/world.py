"""An input that changes between runs, and what each of its states holds."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

WORDS = ("rivers", "engines", "letters", "winters", "gardens", "tables", "stones", "harbours", "violins", "lanterns")


class World:
    """Files of JSON lines in a folder. `states`: id → text, for the first state, the second …"""

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder = folder
        self.states: list[Mapping[str, str]] = []
        self._random = random.Random(seed)
        self._files: dict[str, list[tuple[str, str]]] = {}
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
        return len(self.states[-1])

    def _write(self, name: str, count: int, edition: int) -> None:
        word = self._random.choice
        rows = [
            (f"{name}-{row}", f"row {row} of {name} edition {edition} speaks of {word(WORDS)} and {word(WORDS)}")
            for row in range(count)
        ]
        self._files[name] = rows
        lines = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in rows)
        temporary = self.folder.parent / f"{name}.tmp"
        temporary.write_text(lines)
        temporary.replace(self.folder / name)

    def _note(self) -> None:
        self.states.append({key: text for rows in self._files.values() for key, text in rows})
