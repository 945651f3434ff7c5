"""What must hold of any file, however damaged: it is read or refused, and what is intact in it is read right. Cut into pieces
it is the same file. The good file beside it keeps every row.

Reading it, alone, in company and in pieces, may take 10 seconds and 400 MiB of memory (`child.SECONDS`, `MEMORY_MIB`).
"""

import csv
import io
import json
import shutil
import traceback
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from faults.corpus import arrow
from faults.corpus.case import Read, Row, wrong_message
from faults.corpus.child import Outcome
from faults.corpus.formats import due_rows, options_of
from faults.corpus.mutate import Mutant, good, mutant
from faults.corpus.reading import Peak, read_folder

BOM = b"\xef\xbb\xbf"

ASIDE = {"malformed": "quarantine"}
"""Bad lines are kept aside, so that the rows around them are there to be looked at."""

FRIENDS: dict[str, tuple[str, list[Row]]] = {
    ".txt": ("0.txt", [("0.txt@0", "a good text", None), ("0.txt@12", "another good text", None)]),
    "": ("0.jsonl", [("friend-1", "a good text", None), ("friend-2", "another good text", None)]),
}
"""Name and rows of the file that columns are taken from, so that the damaged one is always read by its reader, too."""


def judge(seed: str, folder: Path) -> Outcome:
    """What the mutant of a seed comes to."""
    damaged = mutant(int(seed))
    place = folder / "fuzz"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    target = place / damaged.name
    target.write_bytes(damaged.data)
    peak = Peak()
    try:
        alone, friendly, friend = _read_twice(place, target)
    except Exception:  # what the program must never raise
        return Outcome("wrong", f"seed {seed}: {traceback.format_exc(limit=-4)}", peak.grown(), kind=damaged.kind)
    grown = peak.grown()
    refusals = [refusal for read in (alone, friendly, friendly.cut) if read for refusal in read.refusals]
    problem = (
        _problem(damaged, friendly)
        or _friend_problem(target.name, friend)
        or _cut_problem(damaged, friendly)
        or next(filter(None, (wrong_message(refusal, str(target)) for refusal in refusals)), None)
    )
    what = "wrong" if problem else "read" if friendly.refusal is None else "refused"
    detail = f"seed {seed}: {problem}" if problem else friendly.refusal or ""
    return Outcome(what, detail, grown, kind=damaged.kind)


def _read_twice(place: Path, target: Path) -> tuple[Read, Read, Read]:
    """The damaged file alone and in company, and the good file beside it."""
    options = options_of(target.name)
    alone = read_folder(place, options, ASIDE)
    name, rows = _friend_of(target.name)
    plain = name.endswith(".txt")
    lines = (str(text) if plain else json.dumps({"id": row, "text": text}) for row, text, _ in rows)
    (place / name).write_text("".join(line + "\n" for line in lines))
    friendly = read_folder(place, options, ASIDE)
    return alone.get(str(target)) or alone[""], friendly[str(target)], friendly[str(place / name)]


def _friend_of(name: str) -> tuple[str, list[Row]]:
    return FRIENDS[".txt" if ".txt" in name else ""]


def _friend_problem(name: str, friend: Read) -> str | None:
    """What the good file beside it lost or gained by the company."""
    rows = _friend_of(name)[1]
    for read in (friend, friend.cut):
        if read and (read.refusal is not None or list(read.rows) != rows):
            return f"the file beside it suffers: {read!r:.500}"
    return None


def _problem(damaged: Mutant, found: Read) -> str | None:
    """What was read wrongly of a file that was read, as far as that can be told from its bytes."""
    if found.refusal is not None:
        return None
    name = damaged.name
    if name.endswith(".parquet"):
        return _parquet_problem(damaged, found)
    if name.endswith(".arrow"):
        return _arrow_problem(damaged, found)
    plain = damaged.plain
    if plain is None:
        return "what was read can't be inflated"
    if ".jsonl" in name:
        return _jsonl_problem(plain, found)
    return _text_problem(plain, found) if ".txt" in name else _table_problem(name, plain, found)


def _cut_problem(damaged: Mutant, whole: Read) -> str | None:
    """What the pieces of a file that was cut make otherwise than the whole: rows, or rows in spite of a refusal."""
    cut = whole.cut
    if cut is None:
        return None
    if whole.refusal is None or cut.refusal is None:
        same = (cut.refusal, list(cut.rows)) == (whole.refusal, list(whole.rows))
        return None if same else f"in pieces: {cut!r:.500} instead of {whole!r:.500}"
    intact = _intact(damaged)
    wrong = intact is not None and Counter(row for row in cut.rows if row[2] is None) - intact
    return f"in pieces, in spite of a refusal: {wrong!r:.500}" if wrong else None


def _intact(damaged: Mutant) -> Counter[Row] | None:
    """Rows that pieces of a refused file may give for good; None where nothing in the file could show them changed."""
    name = damaged.name
    if name.endswith(".arrow"):
        told = [row for batch in arrow.read_plainly(damaged.data) for row in batch or ()]
        return None if None in told else Counter(filter(None, told))
    if name.endswith(".parquet"):
        return Counter(due_rows(name)) if _only_pages(damaged) else None
    if name == "a.jsonl":
        return Counter(filter(None, map(_json_row, damaged.data.removeprefix(BOM).split(b"\n"))))
    return Counter() if name == "a.txt" else None  # any text is a line: a file of them is refused for what it is


def _json_row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = (row.get("id"), row.get("text"), None) if isinstance(row, dict) else ()
    return found if all(isinstance(value, str) for value in found[:2]) else None


def _parquet_problem(damaged: Mutant, found: Read) -> str | None:
    """Pages have checksums, the footer has none."""
    right = not _only_pages(damaged) or list(found.rows) == due_rows(damaged.name)
    return None if right else f"read as {found.rows!r:.500}"


def _arrow_problem(damaged: Mutant, found: Read) -> str | None:
    """Arrow has no checksums: a row may be another one than it was, but must be what is there now."""
    intact = arrow.untouched(damaged)
    if list(found.rows[: len(intact)]) != intact:
        return f"rows before the damage are not read right: {found.rows!r:.500}"
    if Counter(found.counts).total() != len(found.rows):
        return None  # more than is kept to be compared
    return arrow.differs(found.rows, arrow.read_plainly(damaged.data))


def _only_pages(damaged: Mutant) -> bool:
    pages = good(damaged.name)
    footer = len(pages) - pq.read_metadata(io.BytesIO(pages)).serialized_size - 8
    return damaged.start < footer and damaged.data[footer:] == pages[footer:]


def _jsonl_problem(plain: bytes, found: Read) -> str | None:
    lines = [line for line in plain.removeprefix(BOM).split(b"\n") if line.strip()]
    intact = set(good("a.jsonl").splitlines())
    due = Counter((row["id"], row["text"], None) for line in lines if line in intact for row in [json.loads(line)])
    missing = due - Counter(found.rows)
    if missing:
        return f"intact lines are not read right: {missing}"
    return None if len(found.rows) == len(lines) else f"{len(found.rows)} rows of {len(lines)} lines"


def _text_problem(plain: bytes, found: Read) -> str | None:
    due = []
    for line in plain.removeprefix(BOM).removesuffix(b"\n").split(b"\n") if plain else []:
        try:
            due.append((line.removesuffix(b"\r").decode(), None))
        except UnicodeDecodeError:
            due.append((None, "invalid_utf8"))
    texts = [(text, kind) for _, text, kind in found.rows]
    return None if texts == due else f"{texts!r:.400} instead of {due!r:.400}"


def _table_problem(name: str, plain: bytes, found: Read) -> str | None:
    text = io.StringIO(plain.decode("utf-8", "surrogateescape").removeprefix("\ufeff"), newline="")
    header, *rows = [row for row in csv.reader(text, delimiter="\t" if ".tsv" in name else ",") if row] or [[]]
    due = [_table_row(row[header.index("id")], row[header.index("text")]) for row in rows]
    return None if list(found.rows) == due else f"{found.rows!r:.400} instead of {due!r:.400}"


def _table_row(row_id: str, text: str) -> tuple[str | None, str | None, str | None]:
    clean = [None if any("\udc80" <= letter <= "\udcff" for letter in value) else value for value in (row_id, text)]
    if None in clean:
        return clean[0], None, "invalid_utf8"
    return (row_id, text, None) if row_id else ("", None, "null_id")
