"""Texts that end, hang or exhaust the process that encodes them: found, set aside with their reason, and the job goes on."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from faults import oracle
from faults.encoder import EXIT
from faults.poison.bench import DEADLY, NAN, SCRIPT, attempts, run, write
from support.jobs import make_config

from pipeline.config.schema import Config

ROWS = 200


def one_replica(folder: Path, model: str, **changes: Any) -> Config:
    """A job on Ray."""
    return make_config(
        folder / "in", str(folder / "out"), model, execution__engine="ray", execution__replicas=1,
        output__max_rejected_share=0.1, **changes,
    )  # fmt: skip


def assert_only_x_3_is_set_aside(out: Path, texts: Mapping[str, str], model: str) -> None:
    """And all others have their vectors."""
    assert list(oracle.set_aside(str(out))) == ["x-3"]
    kept = {name: text for name, text in texts.items() if name != "x-3"}
    assert oracle.check(str(out), kept, model).right


@pytest.mark.ray
def test_on_ray_poison_is_set_aside_and_the_job_ends(tmp_path: Path, tiny_model: str) -> None:
    """A row that kills its worker makes Ray restart it for ever, or ends the job on every run; its neighbours' rows wait."""
    poison = {"aardvark": "exit", "donkey": "hang", "gorilla": "raise"}
    texts = {}
    for word in poison:
        texts |= write(tmp_path / "in", {77: word}, word)
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__engine="ray", execution__unit_timeout_s=6,
        execution__replicas=2, output__max_rejected_share=0.3, units__text_mib=1,
    )  # fmt: skip
    texts |= write(tmp_path / "in", {}, "healthy")
    write(tmp_path / "in", {150: "lizard"}, "unreadable")
    done = run(config, tmp_path / "log", poison, FAULTS_READ=json.dumps({"lizard": "segfault"}))
    assert done.returncode == 4, done.stderr[-3000:]  # the snapshot is without the unit that can't be read
    entry = oracle.newest(oracle.reader(str(tmp_path / "out")))
    assert entry is not None, done.stderr[-3000:]
    ((uri, reason),) = entry["failed"].items()
    assert uri.endswith("unreadable.jsonl")
    assert "reading it ends the process that does, every time: its process was ended by SIGSEGV" in reason
    aside = oracle.set_aside(str(tmp_path / "out"))
    assert {name: row["kind"] for name, row in aside.items()} == {f"{word}-77": "poison" for word in poison}
    kept = {name: text for name, text in texts.items() if name not in aside}
    assert oracle.check(str(tmp_path / "out"), kept, tiny_model).right
    assert max(attempts(tmp_path / "log").values()) <= 2 * math.log2(ROWS) + 2


def test_every_kind_of_poison_is_told_from_its_neighbours(tmp_path: Path, tiny_model: str) -> None:
    """Without Ray the process that dies is the run itself; what is left to know it by are the notes of its attempts."""
    words = list(DEADLY)
    texts = write(tmp_path / "in", {20 * at: word for at, word in enumerate(words)})
    config = make_config(
        tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=0.1, execution__unit_timeout_s=5
    )
    assert [run(config, tmp_path / "log", SCRIPT).returncode for _ in range(3)] == [EXIT, EXIT, 0]
    aside = oracle.set_aside(str(tmp_path / "out"))
    assert len(aside) == len(words)
    for at, word in enumerate(words):
        assert DEADLY[word].fits(aside[f"x-{20 * at}"])
    kept = {name: text for name, text in texts.items() if name not in aside}
    assert oracle.check(str(tmp_path / "out"), kept, tiny_model).right
    assert max(attempts(tmp_path / "log").values()) <= 2 * math.log2(ROWS) + 2


def test_poison_among_the_parity_gates_texts_ends_no_job(tmp_path: Path, tiny_model: str) -> None:
    """It would end every replica before that has encoded anything, on each run anew: two runs tell, the third one measures the
    gate without the job's own texts, and then the text is found like any other."""
    texts = write(tmp_path / "in", {3: "aardvark"}, rows=20)
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=0.1)
    codes = [run(config, tmp_path / "log", {"aardvark": "exit"}, FAULTS_GATE="1").returncode for _ in range(5)]
    assert codes == [EXIT, EXIT, EXIT, EXIT, 0]
    assert_only_x_3_is_set_aside(tmp_path / "out", texts, tiny_model)


@pytest.mark.ray
def test_poison_among_the_parity_gates_texts_ends_no_job_on_ray(tmp_path: Path, tiny_model: str) -> None:
    """There the run itself lives on, and need not be started again."""
    texts = write(tmp_path / "in", {3: "aardvark"}, rows=20)
    config = one_replica(tmp_path, tiny_model)
    done = run(config, tmp_path / "log", {"aardvark": "exit"}, FAULTS_GATE="1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_only_x_3_is_set_aside(tmp_path / "out", texts, tiny_model)


@pytest.mark.ray
def test_on_ray_a_worker_whose_device_is_of_no_use_any_more_makes_room_for_another(
    tmp_path: Path, tiny_model: str
) -> None:
    """It answers each unit at once, with an error, so that it'd get more of them than all that work."""
    texts = write(tmp_path / "in", {3: "aardvark"})
    config = one_replica(tmp_path, tiny_model, units__rows=20)
    done = run(config, tmp_path / "log", {"aardvark": "broken device"}, FAULTS_ENCODE_S="0.005")
    assert done.returncode == 0, done.stderr[-3000:]
    assert attempts(tmp_path / "log") == {"aardvark": 2, "deviceless": 1}
    assert "an illegal memory access" in oracle.set_aside(str(tmp_path / "out"))["x-3"]["reason"]
    assert_only_x_3_is_set_aside(tmp_path / "out", texts, tiny_model)


@pytest.mark.ray
def test_on_ray_a_machine_whose_device_nobody_can_use_for_a_while_gives_its_units_back_and_goes_on_after_that(
    tmp_path: Path, tiny_model: str
) -> None:
    """A worker that can't be set up would end the whole graph, and so each round, for all machines."""
    texts = write(tmp_path / "in", {3: "aardvark"})
    config = one_replica(tmp_path, tiny_model, units__rows=20)
    done = run(config, tmp_path / "log", {"aardvark": "broken card"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert attempts(tmp_path / "log")["cardless"] == 3
    assert "the Ray graph failed" not in done.stderr
    assert_only_x_3_is_set_aside(tmp_path / "out", texts, tiny_model)


@pytest.mark.parametrize("rows", [1, 2])
def test_the_smallest_units_need_no_more_than_their_share_of_attempts(
    tmp_path: Path, tiny_model: str, rows: int
) -> None:
    """At most 2·log2(n) + 2: two for a single text, four for two."""
    write(tmp_path / "in", {})
    (tmp_path / "in" / "x.jsonl").write_text(
        "".join(json.dumps({"id": str(row), "text": f"{row} aardvark"}) + "\n" for row in range(rows))
    )
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=1)
    deaths = 0
    while run(config, tmp_path / "log", {"aardvark": "exit"}).returncode == EXIT:
        deaths += 1
    assert deaths == rows
    assert len(oracle.set_aside(str(tmp_path / "out"))) == rows
    assert attempts(tmp_path / "log")["aardvark"] <= 2 * rows


def test_a_text_that_gives_nan_even_alone_is_set_aside_and_one_that_does_so_in_company_keeps_its_vector(
    tmp_path: Path, tiny_model: str
) -> None:
    texts = write(tmp_path / "in", {3: "iguana", 4: "hyena", 5: "iguana"})
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=0.1)
    done = run(config, tmp_path / "log", SCRIPT)
    assert done.returncode == 0, done.stderr
    aside = oracle.set_aside(str(tmp_path / "out"))
    assert {name: row["kind"] for name, row in aside.items()} == {"x-3": "not_finite", "x-5": "not_finite"}
    assert all(NAN["iguana"].fits(row) for row in aside.values())
    kept = {name: text for name, text in texts.items() if name not in aside}
    assert oracle.check(str(tmp_path / "out"), kept, tiny_model).right
    assert attempts(tmp_path / "log") == {"iguana": 4, "hyena": 2}, "each once in company, and once more alone"


def test_nan_beside_poison_is_told_from_it(tmp_path: Path, tiny_model: str) -> None:
    """Then its unit is encoded in groups, in a process that may die."""
    texts = write(tmp_path / "in", {3: "iguana", 4: "aardvark", 5: "hyena"})
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, output__max_rejected_share=0.1)
    assert [run(config, tmp_path / "log", SCRIPT).returncode for _ in range(3)] == [EXIT, EXIT, 0]
    aside = oracle.set_aside(str(tmp_path / "out"))
    assert {name: row["kind"] for name, row in aside.items()} == {"x-3": "not_finite", "x-4": "poison"}
    kept = {name: text for name, text in texts.items() if name not in aside}
    assert oracle.check(str(tmp_path / "out"), kept, tiny_model).right


def test_a_serial_run_that_hangs_ends_itself(tmp_path: Path, tiny_model: str) -> None:
    """Nobody else looks after it; a job that hangs over night is found in the morning."""
    write(tmp_path / "in", {3: "ibex"})
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model, execution__unit_timeout_s=2)
    done = run(config, tmp_path / "log", {"ibex": "hang"})
    assert done.returncode == 4
    assert "no progress for 2 s" in done.stderr or "no progress for 3 s" in done.stderr


def test_a_healthy_text_alone_in_its_unit_is_asked_once_more_though_both_processes_were_taken_away(
    tmp_path: Path, tiny_model: str
) -> None:
    """A file of one row: its first attempt went with the machine, and the throw-away process for somebody else's sake."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jsonl").write_text(json.dumps({"id": "1", "text": "a jackal"}) + "\n")
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model)
    codes = [run(config, tmp_path / "log", {"jackal": "kill twice"}).returncode for _ in range(2)]
    assert codes == [-9, 0]
    assert attempts(tmp_path / "log")["jackal"] == 3
    assert oracle.set_aside(str(tmp_path / "out")) == {}


def test_a_healthy_unit_whose_process_was_taken_away_twice_loses_nothing(tmp_path: Path, tiny_model: str) -> None:
    """Suspicion is no verdict: machines are taken away too."""
    texts = write(tmp_path / "in", {3: "jackal"})
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model)
    assert [run(config, tmp_path / "log", {"jackal": "kill"}).returncode for _ in range(2)] == [-9, -9]
    done = run(config, tmp_path / "log", {})
    assert done.returncode == 0, done.stderr
    assert oracle.check(str(tmp_path / "out"), texts, tiny_model).right
    assert oracle.set_aside(str(tmp_path / "out")) == {}
