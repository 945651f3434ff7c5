"""One case of the corpus read twice: alone, and beside a good file whose rows must not suffer. Either way the file is also
cut into pieces, where it can be."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from faults.corpus.case import Case, Read, wrong_message
from faults.corpus.cases import CASES
from faults.corpus.child import Outcome
from faults.corpus.reading import Peak, read_folder

FRIEND = [("friend-1", "a good text", None), ("friend-2", "another good text", None)]


def judge(name: str, folder: Path) -> Outcome:
    """What the case of that name comes to."""
    return judge_case(CASES[name], folder)


def judge_case(case: Case, folder: Path) -> Outcome:
    """Write the file, read it, and hold it against what is right."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    target = place / case.file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(case.data())
    peak = Peak()
    alone = _found(read_folder(place, case.options, case.rows), target)
    problems = _problems(case, alone, target, "alone")
    if case.company:
        problems += _in_company(case, place, target)
    grown = peak.grown()
    shutil.rmtree(place)
    what = "wrong" if problems else "read" if alone.refusal is None else "refused"
    return Outcome(what, "; ".join(problems) or alone.refusal or "", grown)


def _in_company(case: Case, place: Path, target: Path) -> list[str]:
    plain = case.options.get("text", "text") is None
    friend = place / f"0-friend.{'txt' if plain else 'jsonl'}"
    friend.write_bytes(friend_file(plain=plain))
    found = read_folder(place, case.options, case.rows)
    problems = _problems(case, _found(found, target), target, "in company")
    theirs = found.get(str(friend), Read())
    for read in (theirs, theirs.cut):
        if read and not case.by_name and [row[1:] for row in read.rows] != [row[1:] for row in FRIEND]:
            problems.append(f"the file beside it suffers: {found.get(str(friend)) or found['']}")
    return problems


def friend_file(*, plain: bool) -> bytes:
    """The good file, of lines of text or of JSON."""
    lines: Iterable[str] = (text if plain else json.dumps({"id": row, "text": text}) for row, text, _ in FRIEND)
    return "".join(line + "\n" for line in lines).encode()


def _found(found: Mapping[str, Read], target: Path) -> Read:
    return found.get(str(target)) or found.get("") or Read(refusals=(f"{target} is not among {sorted(found)}",))


def _problems(case: Case, found: Read, target: Path, how: str) -> list[str]:
    problems = [case.right.differs(found), *(wrong_message(refusal, str(target)) for refusal in found.refusals)]
    cut = _problems(case, found.cut, target, f"{how}, in pieces") if found.cut else []
    return [f"{how}: {problem}" for problem in problems if problem] + cut
