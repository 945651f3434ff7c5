"""The figures of the card's model and of the STS benchmark hold to what was asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.figures import __main__ as figures
from jobs.figures import card, sts
from jobs.figures.common import Figure


def scored(spearman: float) -> dict[str, Any]:
    scores = {"spearman": spearman, "pearson": 0.8}
    return {
        "dtype": "float32",
        "scores": {f"stsb.{name}": value for name, value in scores.items()},
        "sets": [{"size": 2, "scores": scores}],
    }


def benchmark(folder: Path) -> Path:
    """Of two pairs that count and one of another split; a quotation mark is one."""
    rows = ["split\tscore\tsentence1\tsentence2", 'dev\t5.0\t"a plane\tan aeroplane', "dev\t0.0\ta cat\tthe stock market",
            "train\t2.0\tx\ty"]  # fmt: skip
    (folder / "sts.tsv").write_text("\n".join(rows) + "\n")
    return folder / "sts.tsv"


@pytest.mark.parametrize("spearman", [0.8669, 0.8675, float("nan")])
def test_a_score_that_is_not_the_one_asked_for_is_told(
    tmp_path: Path, minilm: str, monkeypatch: pytest.MonkeyPatch, spearman: float
) -> None:
    monkeypatch.setattr(sts, "_evaluate", lambda *_: scored(spearman))
    assert "not within 0.02 of 86.72" in sts.measure(tmp_path / "work", benchmark(tmp_path)).missed


def test_what_sentence_transformers_says_is_measured_beside_it(
    tmp_path: Path, minilm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sts, "_evaluate", lambda *_: scored(0.8672))
    figure = sts.measure(tmp_path / "work", benchmark(tmp_path))
    assert figure.values["sentence-transformers"]["spearman"] == pytest.approx(1.0)
    assert "| `exact` | float32 | 86.72 | 80.00 |" in figure.text
    assert not figure.missed


@pytest.mark.parametrize(("distance", "holds"), [(9e-6, True), (2e-5, False), (float("nan"), False)])
def test_a_distance_beyond_the_one_asked_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distance: float, holds: bool
) -> None:
    monkeypatch.setattr(card, "build", lambda folder, texts: folder)
    monkeypatch.setattr(card, "make_job", lambda *_, **__: None)
    monkeypatch.setattr(card, "run", lambda *_: {"times": {"encode": 2000}, "command_s": 3.0})
    monkeypatch.setattr(card, "plain", lambda model, texts: (np.zeros((len(texts), 2), np.float32), 4.0))
    monkeypatch.setattr(card, "compare", lambda *_: (1.0, distance))
    monkeypatch.setattr(card, "verify", lambda *_, **__: type("Report", (), {"passed": True}))
    monkeypatch.setattr(card, "first_lines", lambda folder: (folder, ["a"], 7))
    figure = card.measure(tmp_path)
    assert "10,000 first lines of docstrings, 7 of them others with a number behind." in figure.text
    assert ("more than 1e-05" in figure.missed) != holds


def test_what_was_missed_is_written_down_and_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that shows nothing of a bad figure is one that nobody looks into."""
    for name in ("DOCUMENT", "VALUES"):
        monkeypatch.setattr(figures, name, tmp_path / name)
    figure = Figure("A figure", "It is 3.", {"it": 3}, "3, not 2")
    monkeypatch.setattr(figures, "ALL", {"one": lambda _: figure, "two": lambda _: Figure("Another", "Well.", {})})
    monkeypatch.setattr("sys.argv", ["figures", "--only", "one", "two"])
    with pytest.raises(SystemExit, match="one: 3, not 2"):
        figures.main()
    text = (tmp_path / "DOCUMENT").read_text()
    assert "It is 3." in text
    assert "Well." in text


def test_lines_that_are_numbered_for_want_of_more_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "ROWS", 300)
    _, texts, numbered = card.first_lines(tmp_path)
    assert len(texts) == len(set(texts)) == 300
    assert sum(text.endswith(f" ({n})") for n, text in enumerate(texts[300 - numbered :])) == numbered
