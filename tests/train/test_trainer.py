"""Training, over killed processes, to a model that the pipeline embeds with."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.jobs import make_config, text_of, write_jsonl

import pipeline
from pipeline.check.verify import verify
from pipeline.config.training import Architecture, Training
from pipeline.errors import ConfigError, EncodeError, ModelError, RefusedError
from pipeline.train.records import Step
from pipeline.train.trainer import train_model

METRIC = "evaluation_euclidean_ap"
TRAIN = [sys.executable, "-m", "pipeline", "train", "-c"]


def changed(training: Training, output: Path, **schedule: Any) -> Training:
    settings = training.schedule.model_copy(update=schedule)
    return training.model_copy(update={"output": str(output), "schedule": settings})


def weights(output: Path) -> dict[str, torch.Tensor]:
    return {f"{file.parent.name}/{name}": tensor for file in sorted((output / "model").rglob("*.safetensors"))
            for name, tensor in load_file(file).items()}  # fmt: skip


def test_a_small_encoder_learns_and_says_how_it_went(training: Training, tmp_path: Path) -> None:
    points: list[Step] = []
    trained = train_model(training, points.append)
    assert trained.after[METRIC] > trained.before[METRIC] + 0.1
    assert (trained.pairs, trained.positive, trained.evaluation_pairs, trained.steps) == (192, 96, 96, 72)
    evaluated = [point.step for point in points if point.metrics]
    assert evaluated == [0, 12, 24, 36, 48, 60, 72]
    curve = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert [point["step"] for point in curve] == [point.step for point in points]
    assert curve[-1]["metrics"][METRIC] == trained.after[METRIC]
    losses = [point["loss"] for point in curve if point["loss"] is not None]
    assert losses[-1] < losses[0]
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert "euclidean average precision" in (tmp_path / "out" / "model" / "curve.svg").read_text()


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here and in processes that are started: sums in another order, by more threads, make other weights."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_what_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    training: Training, recipe: dict[str, Any], tmp_path: Path
) -> None:
    """With other steps of Dropout or another order of pairs after the resumption it'd be another training."""
    train_model(changed(training, tmp_path / "whole"), lambda _: None)

    config = tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump(recipe))
    started = subprocess.Popen([*TRAIN, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    checkpoints = tmp_path / "out" / "checkpoints"
    until = time.monotonic() + 240
    while not (checkpoints / "checkpoint-30" / "trainer_state.json").exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(timeout=0.05)
        assert started.returncode is None, "it has ended before it could be killed"
        assert time.monotonic() < until
    os.kill(started.pid, signal.SIGKILL)
    lines = started.communicate()[1].decode()
    assert started.returncode == -signal.SIGKILL, lines[-2000:]
    assert "step" in lines
    assert "%|" not in lines, "a bar of another library is drawn into the lines"
    (checkpoints / "checkpoint-31").mkdir()  # as a process leaves it that is killed while it writes
    assert not (tmp_path / "out" / "model").exists()

    trained = train_model(training, lambda _: None)
    assert trained.steps_before >= 20  # its state may not have been whole when the process was killed
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert whole.keys() == resumed.keys()
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name], rtol=0, atol=1e-6)
    # A point's loss is the mean since the point before it, and no step's is missing where it went on.
    one, other = (json.loads((tmp_path / name / "curve.json").read_text()) for name in ("whole", "out"))
    assert [point["step"] for point in other] == [point["step"] for point in one]
    for left, right in zip(one, other, strict=True):
        assert right["loss"] == pytest.approx(left["loss"], abs=1e-6)


def test_a_training_that_has_ended_is_not_done_again_and_another_one_does_not_take_its_place(
    training: Training, tmp_path: Path
) -> None:
    short = changed(training, tmp_path / "out", epochs=1)
    first = train_model(short, lambda _: None)

    def nothing(_: Step) -> None:
        raise AssertionError("it is done again")

    assert train_model(short, nothing) == first
    with pytest.raises(RefusedError, match=r"another training: schedule\.epochs differ"):
        train_model(changed(training, tmp_path / "out", epochs=2), nothing)
    pairs = Path(training.pairs.paths[0])
    pairs.write_text(pairs.read_text().replace("gull", "seal"))
    with pytest.raises(RefusedError, match="another training: pairs differ"):
        train_model(short, nothing)


def test_steps_of_an_epoch_can_be_fewer_or_more_than_the_pairs_have(training: Training, tmp_path: Path) -> None:
    points: list[Step] = []
    trained = train_model(changed(training, tmp_path / "out", epochs=2, steps_per_epoch=5), points.append)
    assert trained.steps == 10
    assert [point.step for point in points if point.metrics] == [0, 5, 10]


def test_the_model_embeds_through_the_pipeline_and_its_card_tells_the_truth(training: Training, tmp_path: Path) -> None:
    """153 dimensions, rows of zeros where ReLU leaves nothing, vectors of any length: as sentence-transformers gives them."""
    trained = train_model(changed(training, tmp_path / "out", epochs=1), lambda _: None)
    write_jsonl(tmp_path / "in" / "a.jsonl", range(200))
    config = make_config(tmp_path / "in", str(tmp_path / "vectors"), trained.model, model__precision="exact")
    assert pipeline.run(config).rows == 200
    report = verify(str(tmp_path / "vectors"))
    assert report.passed, report

    card = (Path(trained.model) / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(2, 153)", done.stderr[-2000:]
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == "sentence-transformers"
    assert f"| euclidean ap | {trained.before[METRIC]:.4f} | {trained.after[METRIC]:.4f} |" in card
    assert f"{trained.parameters:,}" in card
    for told in (
        f"| files | {training.pairs.paths[0]} | {tmp_path}/pairs/dev.jsonl |",
        "| columns | sentence1, sentence2, label | sentence1, sentence2, label |",
        "| loss | ContrastiveLoss, distance_metric SiameseDistanceMetric.EUCLIDEAN, margin 1.0, size_average True |",
        "| optimizer | AdamW, betas 0.9 and 0.999, epsilon 1e-08 |",
        "| scheduler | linear, after the warm-up |",
        "RandomSampler |",
        "| evaluator | BinaryClassificationEvaluator |",
        "| steps_per_epoch | 12 |",
        "| evaluation_steps | 12 |",
    ):
        assert told in card
    assert text_of(0) not in card


def test_what_has_not_begun_can_be_begun_otherwise(training: Training, tmp_path: Path) -> None:
    """A mistake in the recipe is told, and the mended recipe has the same output."""
    wrong = training.model_copy(update={"model": Architecture(base=str(tmp_path / "nowhere"))})
    with pytest.raises(ModelError, match="no such directory"):
        train_model(wrong, lambda _: None)
    assert train_model(changed(training, tmp_path / "out", epochs=1), lambda _: None).steps == 12


def test_an_output_that_is_no_local_directory_is_refused(training: Training) -> None:
    with pytest.raises(ConfigError, match=r"output: s3://bucket/x is no local directory"):
        train_model(training.model_copy(update={"output": "s3://bucket/x"}), lambda _: None)


def test_a_training_that_goes_astray_is_told(training: Training, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e30, "max_grad_norm": 1e30, "warmup_steps": 0}
    with pytest.raises(EncodeError, match=r"training has gone astray; lower schedule\.learning_rate"):
        train_model(changed(training, tmp_path / "out", **settings), lambda _: None)


def test_the_last_steps_are_looked_at_too(training: Training, tmp_path: Path) -> None:
    """Without pairs to evaluate on nothing has used the weights since the last loss."""
    once = {"epochs": 1, "steps_per_epoch": 1, "learning_rate": 1e30, "warmup_steps": 0}
    blind = changed(training, tmp_path / "out", **once).model_copy(update={"evaluation": None})
    with pytest.raises(EncodeError, match="gives NaN or infinity: training has gone astray"):
        train_model(blind, lambda _: None)
    assert not (tmp_path / "out" / "model").exists()


def test_pairs_with_both_labels_are_told(training: Training, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """To the loss a pair is the same one whichever of its texts comes first."""
    rows = [json.loads(line) for line in Path(training.pairs.paths[0]).read_text().splitlines()]
    one = rows[0]
    rows.append({"sentence1": one["sentence2"], "sentence2": one["sentence1"], "label": 1 - one["label"]})
    Path(training.pairs.paths[0]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_model(changed(training, tmp_path / "out", epochs=1, steps_per_epoch=1), lambda _: None)
    assert "pairs: 1 pair with label 1 in one row and 0 in another" in caplog.text


def test_pairs_that_are_trained_on_and_evaluated_on_are_told(training: Training, tmp_path: Path) -> None:
    """Average precision on them says little, and which of the two texts comes first changes nothing."""
    rows = [json.loads(line) for line in Path(training.pairs.paths[0]).read_text().splitlines()]
    turned = [{"sentence1": row["sentence2"], "sentence2": row["sentence1"], "label": row["label"]} for row in rows]
    (tmp_path / "turned.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turned))
    held_out = training.pairs.model_copy(update={"paths": (str(tmp_path / "turned.jsonl"),)})
    same = changed(training, tmp_path / "out", epochs=1).model_copy(update={"evaluation": held_out})
    trained = train_model(same, lambda _: None)
    assert trained.evaluated_on == "192 pairs, 192 of which were trained on too"
    assert "192 of which were trained on too" in (Path(trained.model) / "README.md").read_text()
