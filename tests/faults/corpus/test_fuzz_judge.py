"""The judge of fuzzed files is told of rows that were not read as they lie there: it must see each of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from faults.corpus import arrow, fuzz
from faults.corpus.case import Read, Row
from faults.corpus.formats import FILES, due_rows
from faults.corpus.mutate import Mutant, good
from faults.corpus.reading import read_folder


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in a process of its own; in this one each look at it takes half a second."""
    monkeypatch.setattr(fuzz, "Peak", lambda: SimpleNamespace(grown=lambda: 0.0))


Doctor = Callable[[list[Row]], list[Row]]
DOCTORS: dict[str, Doctor] = {
    "a row is lost": lambda rows: rows[:-1],
    "a row is doubled": lambda rows: [*rows, rows[-1]],
    "one is lost and another doubled": lambda rows: [*rows[:-1], rows[-2]],
    "texts are swapped": lambda rows: [*rows[:-2], (rows[-2][0], *rows[-1][1:]), (rows[-1][0], *rows[-2][1:])],
}
ARROW = ("a.arrow", "packed.arrow", "stream.arrow")


def judge(
    monkeypatch: pytest.MonkeyPatch, folder: Path, damaged: Mutant, whose: Callable[[str], bool], doctor: Doctor
) -> str:
    """What the judge says of a file when what was read of files whose name fits is doctored."""

    def read(*arguments: Any) -> Mapping[str, Read]:
        found = read_folder(*arguments)
        return {uri: _doctored(read, doctor) if whose(Path(uri).name) else read for uri, read in found.items()}

    monkeypatch.setattr(fuzz, "mutant", lambda _: damaged)
    monkeypatch.setattr(fuzz, "read_folder", read)
    return fuzz.judge("0", folder).what


def _doctored(read: Read, doctor: Doctor) -> Read:
    """Whole and in pieces alike, so that comparing the two shows nothing."""
    rows = doctor(list(read.rows))
    counts = fuzz.Counter(kind or "" for _, _, kind in rows)
    return replace(read, rows=rows, counts=counts, cut=read.cut and replace(read.cut, rows=rows, counts=counts))


def unhurt(name: str) -> Mutant:
    """As if a byte had been written over with the same one: in Parquet in a page, else at the end."""
    return Mutant(name, good(name), 0 if name.endswith(".parquet") else len(good(name)), name.partition(".")[2])


def hurt(name: str, at: int, word: bytes) -> Mutant:
    """The file with other bytes from somewhere on."""
    data = bytearray(good(name))
    data[at : at + len(word)] = word
    return Mutant(name, bytes(data), at, "arrow")


@pytest.mark.parametrize("name", FILES)
def test_rows_that_are_not_as_they_lie_there_are_wrong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge(monkeypatch, tmp_path, unhurt(name), lambda found: found == name, lambda rows: rows) == "read"
    for how, doctor in DOCTORS.items():
        assert judge(monkeypatch, tmp_path, unhurt(name), lambda found: found == name, doctor) == "wrong", how


@pytest.mark.parametrize("name", ["a.parquet", "a.txt"])
def test_the_file_beside_it_must_keep_each_row(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for how, doctor in {**DOCTORS, "all rows are lost": lambda _: []}.items():
        assert judge(monkeypatch, tmp_path, unhurt(name), lambda found: found != name, doctor) == "wrong", how


@pytest.mark.parametrize("name", [name for name in ARROW if name != "packed.arrow"])
def test_a_letter_changed_in_arrow_is_what_there_is_now(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second batch: in the first one any other letter is wrong, whatever pyarrow reads there."""
    at = good(name).index(b"plain 13")
    damaged = hurt(name, at, b"q")
    assert judge(monkeypatch, tmp_path, damaged, lambda found: found == name, lambda rows: rows) == "read"
    for how, doctor in DOCTORS.items():
        assert judge(monkeypatch, tmp_path, damaged, lambda found: found == name, doctor) == "wrong", how
    assert arrow.untouched(damaged) == due_rows(name)[:10]
    monkeypatch.setattr(arrow, "differs", lambda *_: None)
    assert judge(monkeypatch, tmp_path, damaged, lambda found: found == name, lambda rows: rows[1:]) == "wrong"


def test_pieces_of_a_refused_arrow_file_give_what_its_other_batches_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offsets of the texts in the second batch are nonsense; its rows can be counted all the same."""
    name, due = "a.arrow", due_rows("a.arrow")
    lengths = [len(text.encode()) for _, text, _ in due[10:20]]
    offsets = np.cumsum([0, *lengths], dtype=np.int32).tobytes()
    damaged = hurt(name, good(name).index(offsets) + 12, b"\xff" * 4)

    def pieces(doctor: Doctor) -> str:
        return judge(monkeypatch, tmp_path, damaged, lambda found: found == name, doctor)

    assert pieces(lambda rows: rows) == "refused"
    assert pieces(lambda _: [*due[:10], *due[20:]]) == "refused"
    assert pieces(lambda _: due[:11]) == "wrong", "a row of the batch that can't be read"
    assert pieces(lambda _: [due[0], due[0]]) == "wrong", "a row twice"
    assert pieces(lambda _: [(due[0][0], due[1][1], None)]) == "wrong", "a row with another's text"
