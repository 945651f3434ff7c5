"""Bad and odd files, each read right or refused with its place, and never at the cost of another file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults.corpus import judge
from faults.corpus.case import Refused, rows
from faults.corpus.cases import CASES
from faults.corpus.child import Child
from faults.corpus.formats import FILES, due_rows, options_of
from faults.corpus.job import fits, problems
from faults.corpus.judge import judge_case
from faults.corpus.reading import read_folder

from pipeline.source import streams

JOB_STEP = 7
"""Every so many cases one is in the job that CI runs; the soak runs all of them."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """The process that reads, so that a crash is an answer like any other."""
    child = Child("faults.corpus.judge", tmp_path_factory.mktemp("corpus"))
    yield child
    child.close()


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 600
    assert sum(isinstance(case.right, Refused) for case in CASES.values()) >= 300


@pytest.mark.parametrize("name", CASES, ids=str)
def test_a_bad_file_is_read_right_or_refused_with_its_place(reader: Child, name: str) -> None:
    """Alone and beside a good file; in bounded memory and time."""
    outcome = reader.ask(name)
    assert not outcome.bad, outcome


def test_what_is_right_for_a_case_can_be_told_from_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        judge, "Peak", lambda: SimpleNamespace(grown=lambda: 0.0)
    )  # slow in a process that holds so much
    case = CASES["csv: a CRLF in quotes"]
    assert judge_case(case, tmp_path).what == "read"
    for wrong in (rows("a\nb"), rows(), rows("a\r\nb", "c"), Refused("row 0")):
        assert judge_case(replace(case, right=wrong), tmp_path).what == "wrong"
    case = CASES["csv: too few fields"]
    assert judge_case(case, tmp_path).what == "refused"
    for wrong in (rows("a"), rows(), Refused("row 2: 1 fields")):
        assert judge_case(replace(case, right=wrong), tmp_path).what == "wrong"
    case = CASES["jsonl: a cut line"]
    assert isinstance(case.right, Refused)
    assert judge_case(case, tmp_path).what == "refused"
    for intact in ((), case.right.intact[:1]):
        assert judge_case(replace(case, right=replace(case.right, intact=intact)), tmp_path).what == "wrong"


def test_what_can_be_read_from_the_middle_is_read_in_pieces_too(tmp_path: Path) -> None:
    cut = set()
    for name, write in FILES.items():
        path = tmp_path / name / name
        path.parent.mkdir()
        path.write_bytes(write())
        [found] = read_folder(path.parent, options_of(name), {}).values()
        assert list(found.rows) == due_rows(name)
        if found.cut:
            assert list(found.cut.rows) == due_rows(name)
            cut.add(name)
    assert cut == {"a.jsonl", "a.txt", "a.parquet", "plain.parquet", "a.arrow", "packed.arrow"}


@pytest.mark.parametrize("name", ["a.txt: utf-16", "a.jsonl: utf-16", "a.txt: .gz data under a plain name"])
def test_a_piece_that_is_read_without_a_look_at_the_head_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces were read in this way until the corpus had files of several."""
    monkeypatch.setattr(streams, "HEAD_BYTES", 0)
    assert judge_case(CASES[name], tmp_path).what == "wrong"


@pytest.mark.parametrize(("how", "what"), [("os.kill(os.getpid(), 11)", "crashed"), ("time.sleep(60)", "hung")])
def test_a_process_that_is_lost_is_an_answer_and_the_next_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, what: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "losing.py").write_text(
        f"import os, time\nfrom faults.corpus.child import Outcome\n"
        f"def judge(line, folder):\n    if line == 'bad':\n        {how}\n    return Outcome('read', line)\n",
        encoding="utf-8",
    )
    child = Child("losing", tmp_path, deaf_s=5.0)
    assert child.ask("good").detail == "good"
    lost = child.ask("bad")
    assert (lost.what, lost.bad) == (what, True)
    assert child.ask("good").detail == "good"
    child.close()


def test_bad_files_in_one_job_cost_none_of_the_others_a_row(tmp_path: Path, tiny_model: str) -> None:
    """What is published and kept aside is exactly what the good files and the readable ones hold."""
    some = [case for case in CASES.values() if fits(case)][::JOB_STEP]
    assert len(some) >= 60
    assert problems(some, tmp_path, tiny_model) == []
