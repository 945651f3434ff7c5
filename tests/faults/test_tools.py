"""The tools themselves: an oracle that can't see a fault proves nothing."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import ledger, oracle, report, soak
from faults.encoder import DIMENSIONS, vector_of
from faults.hooks import environment
from support.jobs import make_config, text_of, write_jsonl
from tokenizers import Tokenizer

RUN = Path(__file__).parents[1] / "support" / "run_job.py"


def test_a_job_with_the_scripted_encoder_gives_what_the_oracle_expects(tmp_path: Path, tiny_model: str) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", range(50))
    output = str(tmp_path / "out")
    config = make_config(tmp_path / "in", output, tiny_model, input__keep=["lang"])
    done = subprocess.run(
        [sys.executable, str(RUN), config.model_dump_json()],
        env=environment("faults.encoder"), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    texts = {f"id-{row}": text_of(row) for row in range(50)}
    kept = {f"id-{row}": {"lang": ["en", "de"][row % 2]} for row in range(50)}
    verdict = oracle.check(output, texts, tiny_model, kept)
    assert verdict.right
    assert verdict.rows == 50
    kept["id-7"] = {"lang": "en"}
    assert oracle.check(output, texts, tiny_model, kept).mispaired == ["id-7"]


def row_of(name: str, text: str, model: str, **wrong: Any) -> oracle.Row:
    """A row as it ought to be but for what is `wrong`."""
    ids = Tokenizer.from_file(f"{model}/tokenizer.json").encode(text).ids
    ids = ids[: ids.index(0)] if 0 in ids else ids  # padding
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    right = oracle.Row(name, vector_of(np.array(ids, np.int32)), len(ids), False, digest, {"lang": "en"})
    return replace(right, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vector": np.zeros(DIMENSIONS, np.float32)},
        {"text_hash": "0" * 32},
        {"token_count": 3},
        {"truncated": True},
        {"kept": {"lang": "de"}},
        {"kept": {"lang": "en", "more": 1}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_the_oracle_sees_whatever_a_row_has_of_another_one(tiny_model: str, wrong: dict[str, Any]) -> None:
    """Vectors that are right beside columns that are shifted by one would be found by the user, in the morning."""
    texts = {name: f"text number {name}" for name in "ab"}
    kept = {name: {"lang": "en"} for name in texts}
    rows = [row_of(name, text, tiny_model) for name, text in texts.items()]
    assert oracle.judge(rows, texts, tiny_model, kept).right
    verdict = oracle.judge([rows[0], replace(rows[1], **wrong)], texts, tiny_model, kept)
    assert verdict.mispaired == ["b"]


def test_the_oracle_sees_rows_that_are_lost_doubled_or_foreign(tiny_model: str) -> None:
    texts = {name: f"text number {name}" for name in "abc"}
    verdict = oracle.judge([row_of(name, "a text", tiny_model) for name in "abbx"], texts, tiny_model)
    assert (verdict.lost, verdict.doubled, verdict.foreign) == (["c"], ["b"], ["x"])
    assert verdict.mispaired == ["a", "b", "b"]
    assert verdict.counts == {"lost": 1, "duplicated": 1, "mispaired": 4, "unreadable": 0}


def test_what_can_not_be_read_is_told_and_not_raised(tmp_path: Path, tiny_model: str) -> None:
    """A judge that raises takes the finding with it, and all zeros stay on the page."""
    verdict = oracle.check(str(tmp_path), {"a": "text"}, tiny_model)
    assert (verdict.right, verdict.lost, verdict.counts["unreadable"]) == (False, ["a"], 1)
    assert "nothing is published" in str(verdict)
    (tmp_path / "_embedpipe" / "log").mkdir(parents=True)
    gone = {"version": 1, "rows": 1, "manifest": {"key": "gone.parquet", "sha256": "0" * 64}}
    (tmp_path / "_embedpipe" / "log" / f"{1:020}.json").write_text(json.dumps(gone))
    assert "gone.parquet" in oracle.check(str(tmp_path), {"a": "text"}, tiny_model).unreadable
    (tmp_path / "gone.parquet").write_bytes(b"other bytes")
    assert "not the file the records name" in oracle.check(str(tmp_path), {"a": "text"}, tiny_model).unreadable


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ledger."""
    monkeypatch.setattr(ledger, "LEDGER", tmp_path / "ledger.json")
    return tmp_path / "ledger.json"


def test_the_ledger_adds_up_by_part_and_version_of_its_code(book: Path) -> None:
    assert ledger.begin("simulation", "v2") == 0
    for version in ("v0", "v1", "v2"):
        ledger.add("simulation", version, ledger.Chunk(100, {"seeds": 100, "violations": 0}), 1.5)
    ledger.add("simulation", "v2", ledger.Chunk(250, {"seeds": 150, "violations": 0}), 2.0)
    ledger.add("simulation", "v2", ledger.Chunk(10, {"seeds": 10}), 2.0, lane=1)
    assert ledger.begin("simulation", "v2") == 250
    assert ledger.begin("simulation", "v2", lane=1) == 10
    assert ledger.begin("chaos", "v2") == 0
    saved = json.loads(book.read_text())["simulation"]
    assert len(saved) == 2, "the present version and one before it"
    assert (saved["v2"]["0"]["next"], saved["v2"]["0"]["seconds"]) == (250, 3.5)
    assert ledger.counts("simulation", "v2") == {"seeds": 260, "violations": 0}


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("simulation", "source/segments sink/part flow/publishing"),
        ("security", "cli/app cli/logs progress/events progress/reporters flow/submit storage/environment"),
        ("poison", "quality/gate flow/isolate flow/throwaway encode/blame"),
        (
            "chaos",
            "cli/app cli/run cli/gc cli/terminal flow/ray_engine flow/overlap source/text_lines config/schema export/load",
        ),
        ("sweep", "cli/app cli/gc source/columnar storage/pinned"),
        ("repeats", "cli/app quality/gate flow/exposure"),
    ],
)
def test_code_that_a_part_counts_the_doings_of_is_in_its_version(part: str, names: str) -> None:
    """Code that is in no version could be rewritten, and all that was counted for other code would stay on the page."""
    proved = {
        path.relative_to(ledger.ROOT / "pipeline").with_suffix("").as_posix()
        for path in ledger.code_of(part)
        if path.is_relative_to(ledger.ROOT / "pipeline")
    }
    assert set(names.split()) <= proved


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("simulation", "simulation/judge simulation/mutants simulation/endings"),
        ("sweep", "sweep/check oracle encoder hooks leftovers"),
        ("chaos", "chaos/watch chaos/host oracle sweep/places site/sitecustomize"),
        ("corpus", "corpus/fuzz corpus/judge"),
        ("repeats", "chaos/test_chaos poison/test_poison security/test_cluster ground/test_memory"),
    ],
)
def test_what_judges_is_in_the_version_too(part: str, names: str) -> None:
    """Zeros that a judge counted who looked away would stay after his eyes were mended."""
    folder = ledger.ROOT / "tests" / "faults"
    found = {path.relative_to(folder).with_suffix("").as_posix() for path in ledger.apparatus(part)}
    assert set(names.split()) <= found
    assert not found & {"ledger", "report", "soak"}


RUN_BY_THE_SIMULATION = """
import json, sys
from faults.simulation.story import simulate

run = set()

def note(frame, event, _):
    if event == "call":
        run.add(frame.f_code.co_filename)

sys.setprofile(note)
for seed in range(60):
    simulate(seed)
sys.setprofile(None)
print(json.dumps(sorted(run)))
"""


def test_the_simulation_runs_no_code_of_the_program_but_that_of_its_version() -> None:
    """The others are proved with nearly all of the program; here it is a list. In a process of its own: some things are made
    once in each."""
    command = [sys.executable, "-c", RUN_BY_THE_SIMULATION]
    path = os.pathsep.join([str(ledger.ROOT / "tests"), str(ledger.ROOT)])
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    package = ledger.ROOT / "pipeline"
    run = {Path(path) for path in json.loads(ran.stdout)}
    left = {path for path in run if path.is_relative_to(package)} - set(ledger.code_of("simulation"))
    assert {path.relative_to(package).as_posix() for path in left} == {
        "config/schema.py",  # validates the config of a simulated job
        "flow/demand.py",  # sees that nothing is demanded
        "flow/duplicate_ids.py",  # says that nobody has counted
        "flow/summary.py",
        "progress/events.py",  # an interface
        "source/links.py",  # sees that a job keeps nothing beside its output
    }


READ_AS_LINES = """
import json, sys
from pathlib import Path
import pipeline.source.schema, pipeline.source.read
from faults.corpus.reading import read_folder

run = set()
sys.setprofile(lambda frame, event, _: run.add(frame.f_code.co_filename))
read = read_folder(Path(sys.argv[1]), {}, {})
sys.setprofile(None)
assert [len(file.rows) for file in read.values()] == [2], read
print(json.dumps(sorted(run)))
"""


def test_parts_whose_files_are_lines_run_no_reader_of_columns(tmp_path: Path) -> None:
    """What chaos has proved outlasts a change of those readers, which it never enters."""
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n')
    path = os.pathsep.join([str(ledger.ROOT / "tests"), str(ledger.ROOT)])
    command = [sys.executable, "-c", READ_AS_LINES, str(tmp_path)]
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    run = {Path(path) for path in json.loads(ran.stdout)}
    assert ledger.ROOT / "pipeline/source/text_lines.py" in run
    package = {path for path in run if path.is_relative_to(ledger.ROOT / "pipeline")}
    for part in ledger.LINES:
        assert package <= set(ledger.code_of(part))


def test_every_pattern_of_a_version_finds_files() -> None:
    """A file that was renamed would leave the version without a word, or come into every one."""
    patterns = (*ledger.PACKAGE, *ledger.APART, *ledger.ENCODE, *ledger.COLUMNS, *ledger.PROTOCOL)
    assert [pattern for pattern in patterns if not list(ledger.ROOT.glob(pattern))] == []
    assert [part.name for part in soak.PARTS] == sorted(ledger.PARTS, key=[part.name for part in soak.PARTS].index)
    assert all(ledger.apparatus(part) for part in ledger.PARTS)


@pytest.mark.parametrize("part", ledger.PARTS)
def test_nothing_was_found_wrong_with_the_code_as_it_is(part: str) -> None:
    """The page shows a finding, and nobody may look at it for a while."""
    assert report.findings(part) == {}


def test_the_page_shows_what_the_ledger_says() -> None:
    """A table written by hand would be a promise, not a proof."""
    assert report.table() in report.PAGE.read_text(), "run `python -m faults.report` (PYTHONPATH=tests:.)"


def test_a_chunk_comes_back_from_its_process_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts are often a Counter, which `asdict` turns into something else."""
    chunk = ledger.Chunk(7, Counter(points=3, lost=0))
    monkeypatch.setattr(soak, "run_part", lambda *_: chunk)
    monkeypatch.setattr(sys, "argv", ["soak", "--chunk", "sweep", "0", "1"])
    assert soak.main() == 0
    assert ledger.Chunk(**json.loads(capsys.readouterr().out.splitlines()[-1])) == chunk


def run_chunk(monkeypatch: pytest.MonkeyPatch, program: str) -> list[bool]:
    """Have a soak's chunk done by this program; whether it was all right."""

    def start(*_: object) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(soak, "_start", start)
    return list(soak._chunks(soak.Part("sweep", {}), 1.0))


@pytest.mark.parametrize(
    "program", ["import sys; sys.exit(1)", "import os; os.kill(os.getpid(), 9)", "print('no counts')", "pass"]
)
def test_a_chunk_that_ends_otherwise_than_well_is_on_the_page_and_done_again(
    book: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """What it was about to tell may have been the worst there is."""
    version = ledger.version_of("sweep")
    ledger.add("sweep", version, ledger.Chunk(7, {"points": 7, "lost": 0}), 1.0)
    assert run_chunk(monkeypatch, program) == [False]
    assert ledger.begin("sweep", version) == 7
    assert ledger.counts("sweep") == {"points": 7, "lost": 0, "chunks_failed": 1}
    assert f"| {dict(report.EVERYWHERE)['chunks_failed']} (sweep) | **1** |" in report.table()
    assert f"| {dict(report.EVERYWHERE)['lost']} (sweep) | **0** |" in report.table()
    assert dict(report.EVERYWHERE)["tracebacks"] not in report.table(), "nobody has looked for any"


def test_a_chunk_that_never_ends_is_ended_and_on_the_page(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The soak would have waited for it, and everything after it, for ever."""
    monkeypatch.setattr(soak, "MOST_S", 0.0)
    assert run_chunk(monkeypatch, "import signal; signal.pause()") == [False]
    assert ledger.counts("sweep") == {"chunks_failed": 1}


def test_a_soak_that_was_done_with_findings_is_not_well(book: Path) -> None:
    """What an earlier sitting has found is no less wrong when this one has nothing left to do."""
    (part,) = (part for part in soak.PARTS if part.name == "repeats")
    version = ledger.version_of("repeats")
    ledger.add("repeats", version, ledger.Chunk(20, {"repeats": 20, "repeats_failed": 0}), 1.0)
    assert soak.soak([part], 1.0)
    ledger.add("repeats", version, ledger.Chunk(21, {"repeats": 1, "repeats_failed": 1}), 1.0)
    assert not soak.soak([part], 1.0)
    assert report.findings("repeats") == {"repeats_failed": 1}


def test_points_of_two_lists_are_a_finding(book: Path) -> None:
    """Each number would stand for another point, and the sum for points that nobody made."""
    version = ledger.version_of("sweep")
    ledger.add("sweep", version, ledger.Chunk(1, {"points": 1, "cases.a1b2": 1}), 1.0)
    assert report.findings("sweep") == {}
    ledger.add("sweep", version, ledger.Chunk(2, {"points": 1, "cases.c3d4": 1}), 1.0)
    assert report.findings("sweep") == {"lists": 2}


@pytest.mark.parametrize("number", [2, 15])
def test_a_chunk_that_somebody_stopped_counts_for_nothing(
    book: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    program = f"import os, signal; signal.signal({number}, signal.SIG_DFL); os.kill(os.getpid(), {number})"
    assert run_chunk(monkeypatch, program) == [False]
    assert ledger.load() == {}


def test_a_chunk_under_which_the_code_has_changed_counts_for_nothing(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes have started with the one or with the other."""
    versions = iter(["before", "after"])
    monkeypatch.setattr(ledger, "version_of", lambda _: next(versions))
    assert run_chunk(monkeypatch, """print('{"next": 3, "counts": {"points": 3}}')""") == [False]
    assert ledger.load() == {}


def test_the_page_says_what_is_not_counted_yet_and_what_was_counted_for_other_code(book: Path) -> None:
    assert report.table().count("nothing was counted yet") == len(ledger.PARTS)
    ledger.add("chaos", "older", ledger.Chunk(1, {"kills": 2, "kills.planning": 2, "kills.planning.gcs": 2}), 3600)
    table = report.table()
    assert "| chaos | `older` | 1.0 | the code has changed since; `make soak` counts anew |" in table
    assert "| of them by phase | planning 2 |" in table
    assert next(line for line in table.splitlines() if line.startswith("| planning")).count(" 2 ") == 1
    ledger.add("chaos", ledger.version_of("chaos"), ledger.Chunk(1, {"kills": 3}), 3600)
    assert "older" not in report.table()


def test_whatever_must_be_zero_is_shown() -> None:
    """A finding that is counted and nowhere to be seen is none."""
    shown = {name for _, name, _ in report.ROWS} | {name for name, _ in report.EVERYWHERE}
    assert shown >= report.MUST_BE_ZERO
