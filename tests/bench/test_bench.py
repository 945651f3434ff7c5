"""The benchmark itself: its texts, its contenders as processes, its tables. Speed is measured by `make bench`, not here."""

import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs.bench import contenders, models, report
from jobs.bench.__main__ import NAMES, section
from jobs.bench.contenders import DEFAULT, EXACT, REPLICAS, Contender, PeerError, Running
from jobs.bench.engine import Size, measure_engine
from jobs.bench.peers import serve
from jobs.bench.peers.serve import fastest, versions
from jobs.bench.texts import (
    DOCUMENTS,
    MIXED,
    MIXES,
    TITLES,
    Mix,
    make_texts,
    texts_of,
    with_duplicates,
    without_duplicates,
)
from jobs.bench.whole import running_rate
from jobs.figures.parity import measure_parity
from pipeline.encode.encoder import TOKEN_BUDGET
from pipeline.model.inspect import inspect_model
from pipeline.text.tokens import Tokens

FEW = Mix("few", 60, 300, 24)


@pytest.mark.parametrize(("mix", "p50", "p95"), [(TITLES, 45, 90), (MIXED, 180, 1850), (DOCUMENTS, 4000, 12_000)])
def test_a_mix_has_the_lengths_it_says(mix: Mix, p50: int, p95: int) -> None:
    """Titles, texts and documents are different races: what pads well wins one and loses another."""
    lengths = [len(text) for text in make_texts(mix, 1000)]
    assert np.percentile(lengths, 50) == pytest.approx(p50, rel=0.15)
    assert np.percentile(lengths, 95) == pytest.approx(p95, rel=0.15)


def test_texts_are_the_same_every_time_and_no_two_alike() -> None:
    """Folding would make a race of its own out of repeated texts."""
    texts = make_texts(MIXED, 2048)
    assert texts == make_texts(MIXED, 2048)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("tokens", [3, 50, 512])
def test_texts_for_a_gpu_are_all_of_one_length_and_none_is_cut(minilm: str, tokens: int) -> None:
    """What is cut off would have been tokenised for nothing, and the tokenizer would have won the race."""
    texts = texts_of(tokens, 40, minilm)
    assert len(set(texts)) == 40
    assert Tokens(minilm, 10_000).encode(texts)[2].tolist() == [tokens] * 40


def test_duplicates_are_a_share_of_the_texts() -> None:
    texts = [f"text {n}" for n in range(100)]
    repeated = with_duplicates(texts, 0.3)
    assert len(repeated) == 100
    assert len(set(repeated)) == 70
    assert set(repeated) <= set(texts)
    assert max(Counter(repeated).values()) > 1


def test_texts_told_apart_are_as_many_tokens_as_their_repeats(minilm: str) -> None:
    """Other texts in their place may be longer, and the gain of folding would be theirs in part."""
    repeated = with_duplicates(make_texts(MIXED, 100), 0.3)
    apart = without_duplicates(repeated)
    assert len(set(apart)) == 100
    assert len(set(apart) & set(repeated)) == 70
    tokens = Tokens(minilm, 100_000)
    assert np.array_equal(tokens.encode(apart)[0], tokens.encode(repeated)[0])


def test_the_work_of_a_model_is_reckoned_from_its_shape() -> None:
    """By hand: MiniLM's layer has 12·384² weights, two operations for each and token, and attention's two products."""
    assert Size(384, 1536, 6, 384, 384, decoder=False).flop([1, 10]) == 6 * (11 * 2 * 12 * 384**2 + 4 * 384 * (1 + 100))


def test_the_work_of_a_decoder_is_reckoned_with_fewer_keys_and_half_of_attention(tmp_path: Path) -> None:
    """By hand: 4 heads of 8 for queries and 2 for keys and values, a gate beside the wider product."""
    config = {"hidden_size": 20, "intermediate_size": 50, "num_hidden_layers": 3, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps({**config, "head_dim": 8, "num_key_value_heads": 2}))
    weights = 20 * (32 + 16 + 16) + 32 * 20 + 3 * 20 * 50
    assert Size.of(str(tmp_path)).flop([1, 10]) == 3 * (11 * 2 * weights + 2 * 32 * (1 + 100))


def test_models_of_the_right_shape_are_embedders(tmp_path: Path, minilm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder of 440 million parameters is made smaller here, and kept in its kind."""
    monkeypatch.setattr(models, "DECODER", {**models.DECODER, "num_hidden_layers": 1})
    directory = models.save_decoder(tmp_path, minilm)
    assert inspect_model(Path(directory), "m", None).dimensions == 1024
    assert Size.of(directory) == Size(1024, 3072, 1, 2048, 1024, decoder=True)


def test_parity_is_measured_against_the_reference() -> None:
    due = np.array([[3, 4], [1, 0]], np.float32)
    same, other = measure_parity(due, due), measure_parity(due * 1.1, due)
    assert (same.min_cosine, same.max_relative_l2) == (1.0, 0.0)
    assert other.min_cosine == pytest.approx(1.0)
    assert other.max_relative_l2 == pytest.approx(0.1, abs=1e-6)
    assert measure_parity(due[::-1], due).min_cosine == pytest.approx(0.6)


@pytest.fixture(scope="module")
def found(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two rounds of three real contenders and two that can't be had, on a model that takes no time."""
    missing = Contender("missing", "engine.py", {"precision": "exact"}, ("embedpipe-no-such-package",))
    broken = Contender("broken", "nowhere.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders, "ENVIRONMENTS", tmp_path_factory.mktemp("environments"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setattr(contenders.os, "sched_getaffinity", lambda _: {0, 1})
        race = (DEFAULT, EXACT, REPLICAS[0], missing, broken)
        return measure_engine(
            tmp_path_factory.mktemp("bench"), tiny_model, make_texts(FEW, 24), race, max_tokens=64, rounds=2
        )


def test_contenders_take_turns_and_their_vectors_are_compared(found: dict[str, Any], tiny_model: str) -> None:
    assert list(found["contenders"]) == [DEFAULT.name, EXACT.name, REPLICAS[0].name]
    for own in found["contenders"].values():
        assert len(own["seconds"]) == 2
        assert all(value > 0 for value in own["seconds"])
        assert own["min_cosine"] > 0.999
    assert found["contenders"][EXACT.name]["max_relative_l2"] < 1e-5
    told = {"dtype": "float32", "fast": True, "token_budget": TOKEN_BUDGET["cpu"]}
    assert found["contenders"][EXACT.name]["told"] == told
    assert found["contenders"][REPLICAS[0].name]["told"] == {"threads": 1}
    told = found["contenders"][DEFAULT.name]["told"]
    assert told == {"batch_size": 32, "dtype": "float32", **versions("sentence-transformers", "torch")}
    assert found["tokens"] == len(Tokens(tiny_model, 64).encode(make_texts(FEW, 24))[0])
    assert all(rate > 1e8 for rate in found["flop_per_s"].values())


def test_a_contender_that_can_not_take_part_is_named_with_the_reason(found: dict[str, Any]) -> None:
    """An empty place in the table would look like a win."""
    assert set(found["failed"]) == {"missing", "broken"}
    assert "embedpipe-no-such-package" in found["failed"]["missing"]
    text = report.engine_section("Title", found)
    assert "* missing: did not take part: pip can't install it" in text
    assert "* broken: did not take part:" in text


def test_the_table_has_parity_beside_every_speed(found: dict[str, Any], tmp_path: Path) -> None:
    text = report.engine_section("Title", found)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    [reference] = [row for row in rows if DEFAULT.name in row]
    assert "1.00×" in reference
    assert "reference" in reference
    [exact] = [row for row in rows if EXACT.name in row]
    assert f"{found['contenders'][EXACT.name]['min_cosine']:.7f}" in exact
    assert "%" in exact
    report.save_plot({"Title": found, "Another": found}, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


@pytest.fixture
def loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """A contender that takes no time and prints what it likes."""
    (tmp_path / "texts.json").write_text(json.dumps(["a text"]))
    (tmp_path / "loud.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(contenders.PEERS)!r})\n"
        "from serve import serve\n"
        "def load(settings, texts):\n"
        "    os.write(1, b'[native] loading\\n')\n"
        "    print('loaded')\n"
        "    return (lambda texts: [[1.0]]), {'told': 1}\n"
        "serve(load)\n"
    )
    monkeypatch.setattr(contenders, "PEERS", tmp_path)
    settings = {"texts": str(tmp_path / "texts.json"), "threads": 1}
    return Running(Contender("loud", "loud.py"), tmp_path / "one", settings)


def test_a_contender_that_dies_says_why(loud: Running, tmp_path: Path) -> None:
    with loud as running:
        (tmp_path / "one" / "err.txt").write_text("RuntimeError: out of luck\n")
        running._process.kill()
        running._process.wait()
        with pytest.raises(PeerError, match="out of luck"):
            running.encode()


def test_a_contender_may_print_what_it_likes(loud: Running) -> None:
    """Native libraries write to file descriptor 1, past everything that Python can redirect."""
    with loud as one:
        assert one.told == {"told": 1}
        assert one.encode() >= 0
        assert one.vectors().tolist() == [[1.0]]


def test_a_contender_that_does_not_answer_counts_as_failed(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "silent.py").write_text("import sys\nsys.stdin.read()\n")
    monkeypatch.setattr(contenders, "PEERS", tmp_path)
    monkeypatch.setattr(contenders, "ANSWER_S", 0.1)
    with pytest.raises(PeerError, match="no answer within"):
        Running(Contender("silent", "silent.py"), tmp_path / "one", {"threads": 1})


def test_the_best_setting_is_chosen_on_all_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a few of them large batches hold more padding than they would in the race."""
    seen: dict[str, list[int]] = {"few": [], "many": [], "never": []}
    now = [0.0]

    def encode(name: str, texts: list[str]) -> None:
        seen[name].append(len(texts))
        now[0] += {"few": len(texts), "many": 50, "never": 500}[name]  # 32 texts are quicker with the first one

    monkeypatch.setattr(serve, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    texts = [str(n) for n in range(100)]
    assert fastest({name: lambda texts, name=name: encode(name, texts) for name in seen}, texts) == "many"
    assert all(lengths == [32, 100, 100] for lengths in seen.values())


def test_peers_without_packages_of_their_own_run_in_this_environment() -> None:
    assert contenders.interpreter(()) == sys.executable


def test_the_rate_once_running_leaves_the_first_unit_out() -> None:
    jobs = [{"tokens": 110.0, "first_tokens": 10.0, "running_s": seconds} for seconds in (5.0, 10.0, 50.0)]
    assert running_rate(jobs) == 10.0


VALUES: dict[str, dict[str, Any]] = {
    "parity": {"texts": 4096, **{name: {"min_cosine": 0.9999, "max_relative_l2": 0.01} for name in report.OURS}},
    "whole": {
        "rows": 100, "engine_seconds": [1.0, 2.0, 1.5],
        "cores": 2, "jobs": [{"tokens": 300.0, "first_tokens": 30.0, "running_s": 1.5, "prepare_s": 0.75, "min_cosine": 0.99996}],
    },
    "recipe": {
        "rows": 100, "recipe_seconds": [9.0], "job_seconds": {"gated": [3.0], "exact": [4.5]},
        "min_cosine": {"recipe": 1.0, "gated": 0.99997, "exact": 0.9999999},
    },
    "folding": {
        "rows": 100, "share": 0.3, "encode_seconds": {"distinct": [1.4], "repeated": [1.0]},
        "min_cosine": {"distinct": 0.99998, "repeated": 0.99997},
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "shown"), [
    ("parity", ["0.9999000"]), ("whole", ["90.0%", "72.0%", "0.9999600"]), ("recipe", ["3.00×", "0.9999700"]),
    ("folding", ["1.40×", "0.9999800"]),
])  # fmt: skip
def test_each_section_shows_its_ratio_and_parity(name: str, shown: list[str]) -> None:
    text = section(name, VALUES[name])
    assert all(figure in text for figure in shown)


def test_every_mix_and_section_can_be_asked_for_alone() -> None:
    assert {mix.name for mix in MIXES} < set(NAMES)
    assert set(VALUES) < set(NAMES)
