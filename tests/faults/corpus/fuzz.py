"""What must hold of any file, however damaged: it is read or refused, and what is intact in it is read right."""

import csv
import io
import json
import shutil
import traceback
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from faults.corpus.case import Read, wrong_message
from faults.corpus.child import Outcome
from faults.corpus.formats import due_rows, options_of
from faults.corpus.mutate import Mutant, good, mutant
from faults.corpus.reading import Peak, read_folder

ASIDE = {"malformed": "quarantine"}
"""Bad lines are kept aside, so that the rows around them are there to be looked at."""

FRIENDS = {".txt": b"a good text\n", "": b'{"id": "friend", "text": "a good text"}\n'}
"""The file that columns are taken from, so that the damaged one is always read by its reader, too."""


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
        alone, friendly = _read_twice(place, target)
    except Exception:  # what the program must never raise
        return Outcome("wrong", f"seed {seed}: {traceback.format_exc(limit=-4)}", peak.grown(), kind=damaged.kind)
    grown = peak.grown()
    problem = _problem(damaged, friendly) or next(
        (said for read in (alone, friendly) if read.refusal and (said := wrong_message(read.refusal, str(target)))),
        None,
    )
    what = "wrong" if problem else "read" if friendly.refusal is None else "refused"
    detail = f"seed {seed}: {problem}" if problem else friendly.refusal or ""
    return Outcome(what, detail, grown, kind=damaged.kind)


def _read_twice(place: Path, target: Path) -> tuple[Read, Read]:
    options = options_of(target.name)
    alone = read_folder(place, options, ASIDE)
    suffix = ".txt" if ".txt" in target.name else ""
    (place / f"0{suffix or '.jsonl'}").write_bytes(FRIENDS[suffix])
    friendly = read_folder(place, options, ASIDE)
    return alone.get(str(target)) or alone[""], friendly[str(target)]


def _problem(damaged: Mutant, found: Read) -> str | None:
    """What was read wrongly of a file that was read, as far as that can be told from its bytes."""
    if found.refusal is not None:
        return None
    name = damaged.name
    if name.endswith(".parquet"):
        return _parquet_problem(damaged, found)
    plain = damaged.plain
    if name.endswith(".gz") and plain is None:
        return "Python can't inflate what was read"
    if plain is None or name.endswith(".arrow"):
        return None  # nothing in the file could show a letter changed
    if ".jsonl" in name:
        return _jsonl_problem(plain, found)
    return _text_problem(plain, found) if ".txt" in name else _table_problem(name, plain, found)


def _parquet_problem(damaged: Mutant, found: Read) -> str | None:
    """Pages have checksums, the footer has none."""
    pages = good(damaged.name)
    footer = len(pages) - pq.read_metadata(io.BytesIO(pages)).serialized_size - 8
    only_pages = damaged.start < footer and damaged.data[footer:] == pages[footer:]
    return f"read as {found.rows!r:.500}" if only_pages and list(found.rows) != due_rows(damaged.name) else None


def _jsonl_problem(plain: bytes, found: Read) -> str | None:
    lines = [line for line in plain.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    intact = set(good("a.jsonl").splitlines())
    due = Counter((row["id"], row["text"], None) for line in lines if line in intact for row in [json.loads(line)])
    missing = due - Counter(found.rows)
    if missing:
        return f"intact lines are not read right: {missing}"
    return None if len(found.rows) == len(lines) else f"{len(found.rows)} rows of {len(lines)} lines"


def _text_problem(plain: bytes, found: Read) -> str | None:
    due = []
    for line in plain.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n") if plain else []:
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
