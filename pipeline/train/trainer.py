"""Training: sentence-transformers' own trainer, from pairs to a finished model, over any number of killed processes."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sentence_transformers.sentence_transformer.losses import ContrastiveLoss, SiameseDistanceMetric
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.config.training import Training
from pipeline.errors import ConfigError, EncodeError, StorageError, first_line
from pipeline.evaluate.pairs import LabelledPairs, read_pairs
from pipeline.evaluate.plot import plot_curve
from pipeline.train.build import build_model
from pipeline.train.card import CURVE, write_card
from pipeline.train.records import Report, Step, Trained
from pipeline.train.workplace import Workplace, open_workplace

DISTANCES = {
    "euclidean": SiameseDistanceMetric.EUCLIDEAN,
    "cosine": SiameseDistanceMetric.COSINE_DISTANCE,
    "manhattan": SiameseDistanceMetric.MANHATTAN,
}
EVALUATION = "evaluation"
"""What metrics' names begin with."""

ASTRAY = (
    "the model's vectors hold NaN: training has gone astray; lower schedule.learning_rate, and choose another output"
)

LOG_STEPS = 8
"""Points of the curve are so far apart, or as far as an epoch has steps."""


def train_model(training: Training, report: Report) -> Trained:
    """Train as asked, going on from the last checkpoint where there is one; what has ended is not done again.

    Raises InputError for pairs that can't be used, ModelError and ConfigError for a model that can't, before anything is
    computed; RefusedError where `output` holds another training; EncodeError where the device's memory doesn't suffice or the
    weights run away; StorageError where nothing can be written.
    """
    started = time.monotonic()
    device = _device(training)
    pairs = read_pairs(training.pairs, "pairs")
    held_out = read_pairs(training.evaluation, "evaluation") if training.evaluation is not None else None
    place = open_workplace(training.output)
    place.claim(training, [pairs, held_out] if held_out is not None else [pairs])
    ended = place.result()
    if ended is not None:
        return ended
    with _told(training):
        with tempfile.TemporaryDirectory(prefix="embedpipe-train-") as folder:
            texts = (*pairs.first, *pairs.second)
            model = build_model(
                training.model,
                texts,
                Path(folder),
                similarity=training.loss.distance,
                device=device,
                seed=training.schedule.seed,
            )
        measure = _Measure(training, held_out)
        watch = _Watch(place, report)
        before = watch.before(lambda: measure(model))
        steps, steps_before = _fit(training, model, pairs, measure, place, watch)
        after = measure(model)
        watch.end(after)
    trained = Trained(
        model=str(place.model),
        dimensions=model.get_embedding_dimension(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        pairs=len(pairs.labels),
        positive=pairs.positive,
        left_out=pairs.left_out,
        evaluation_pairs=len(held_out.labels) if held_out is not None else 0,
        steps=steps,
        steps_before=steps_before,
        seconds=round(time.monotonic() - started, 1),
        before=before,
        after=after,
        metric=f"{EVALUATION}_{training.loss.distance}_ap" if held_out is not None else "",
        device=device,
        base=training.model.base,
        evaluated_trained=_count_common(held_out, pairs) if held_out is not None else 0,
    )
    with _told(training):
        place.finish(trained, lambda folder: _save(model, folder, training, trained, watch.points))
    return trained


def _count_common(some: LabelledPairs, others: LabelledPairs) -> int:
    """How many of some pairs are among the others."""
    known = set(others.texts)
    return sum(pair in known for pair in some.texts)


@contextmanager
def _told(training: Training) -> Iterator[None]:
    """What a device, a disk or a run gone astray makes libraries raise leaves this block as an error of the tree."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EncodeError(
            f"{first_line(error)}; lower schedule.batch_size ({training.schedule.batch_size}) or model.max_tokens"
        ) from error
    except OSError as error:
        raise StorageError(
            f"{error.filename or training.output}: {error.strerror or first_line(error)}; mend that, and run again: training "
            "goes on from its last checkpoint"
        ) from error


def _fit(
    training: Training,
    model: SentenceTransformer,
    pairs: LabelledPairs,
    measure: "_Measure",
    place: Workplace,
    watch: "_Watch",
) -> tuple[int, int]:
    """Train from the last checkpoint, or from the beginning; steps of the whole training, and those done before."""
    trainer = _trainer(training, model, pairs, measure, place)
    trainer.add_callback(watch)
    checkpoint = place.last_checkpoint()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return trainer.state.max_steps, 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])


def _device(training: Training) -> str:
    there = torch.cuda.is_available()
    if training.device == "cuda" and not there:
        raise ConfigError("device is cuda, but torch sees no GPU here; leave it at auto, or train where there is one")
    return "cuda" if there and training.device != "cpu" else "cpu"


class _Measure:
    """Metrics of a model on pairs it isn't trained on, by name; none where there are no such pairs."""

    def __init__(self, training: Training, pairs: LabelledPairs | None) -> None:
        self.evaluator: BinaryClassificationEvaluator | None = None
        if pairs is not None:
            self.evaluator = BinaryClassificationEvaluator(
                list(pairs.first),
                list(pairs.second),
                list(pairs.labels),
                name=EVALUATION,
                batch_size=training.schedule.batch_size,
                write_csv=False,
                similarity_fn_names=list(dict.fromkeys((training.loss.distance, "cosine"))),
            )

    def __call__(self, model: SentenceTransformer) -> dict[str, float]:
        if self.evaluator is None:
            return {}
        try:
            return _rounded(self.evaluator(model))
        except ValueError as error:
            if "NaN" not in str(error):
                raise
            raise EncodeError(ASTRAY) from error


def _trainer(
    training: Training,
    model: SentenceTransformer,
    pairs: LabelledPairs,
    measure: _Measure,
    place: Workplace,
) -> SentenceTransformerTrainer:
    schedule = training.schedule
    an_epoch = schedule.steps_per_epoch or math.ceil(len(pairs.labels) / schedule.batch_size)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(place.checkpoints),
        max_steps=schedule.epochs * an_epoch,
        per_device_train_batch_size=schedule.batch_size,
        learning_rate=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        warmup_steps=schedule.warmup_steps,
        lr_scheduler_type="linear",
        max_grad_norm=schedule.max_grad_norm,
        optim="adamw_torch",
        seed=schedule.seed,
        data_seed=schedule.seed,
        use_cpu=model.device.type == "cpu",
        eval_strategy="no" if measure.evaluator is None else "steps",
        eval_steps=None if measure.evaluator is None else schedule.evaluation_steps or an_epoch,
        save_strategy="steps",
        save_steps=schedule.checkpoint_steps,
        save_total_limit=2,
        logging_steps=min(LOG_STEPS, an_epoch),
        report_to="none",
        logging_nan_inf_filter=False,
        disable_tqdm=True,
    )
    arguments.n_gpu  # noqa: B018 (found out by asking)
    arguments._n_gpu = min(
        1, arguments._n_gpu
    )  # with several a step would take as many batches, and the recipe be another
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(
            {
                "first": list(pairs.first),
                "second": list(pairs.second),
                "label": [float(label) for label in pairs.labels],
            }
        ),
        loss=ContrastiveLoss(model, DISTANCES[training.loss.distance], training.loss.margin),
        evaluator=measure.evaluator,
    )
    trainer.remove_callback(PrinterCallback)  # it would write to stdout, which is for the result
    return trainer


class _Trainer(SentenceTransformerTrainer):
    """Without the card that would be made by the way: ours is written at the end, and holds no texts of the pairs."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        pass


class _Watch(TrainerCallback):
    """Tells how far training is, and keeps the curve."""

    def __init__(self, place: Workplace, report: Report) -> None:
        self._place, self._report = place, report
        self.points: list[dict[str, Any]] = place.read_curve()

    def before(self, measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Metrics of the model as it was built; measured once, whatever is killed later."""
        if not self.points:
            self._add(Step(0, 0, 0.0, metrics=measure()))
        first: Mapping[str, float] = self.points[0]["metrics"]
        return first

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:  # noqa: ARG002
        logs: Mapping[str, float] = more["logs"]
        metrics = {name: value for name, value in logs.items() if name.startswith(f"eval_{EVALUATION}")}
        if "loss" not in logs and not metrics:
            return  # the summary at the end
        shorter = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        epoch = round(state.epoch or 0.0, 3)
        rate, loss = logs.get("learning_rate"), logs.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise EncodeError(ASTRAY)
        self._add(Step(state.global_step, state.max_steps, epoch, loss, rate, _rounded(shorter)))

    def end(self, metrics: Mapping[str, float]) -> None:
        """Of the finished model."""
        last = self.points[-1]
        if last["metrics"] != metrics:
            self._add(Step(last["step"], last["steps"], last["epoch"], metrics=metrics))

    def _add(self, point: Step) -> None:
        # A run that was killed may have got further than its last checkpoint: that part is done again.
        kind = bool(point.metrics)
        self.points = [
            one
            for one in self.points
            if one["step"] < point.step or (one["step"] == point.step and bool(one["metrics"]) != kind)
        ]
        self.points.append(asdict(point))
        self._place.write_curve(self.points)
        self._report(point)


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in metrics.items()}


def _save(
    model: SentenceTransformer,
    folder: Path,
    training: Training,
    trained: Trained,
    points: Sequence[Mapping[str, Any]],
) -> None:
    model.save(str(folder), create_model_card=False)
    plot_curve(points, trained.metric, folder / CURVE)
    write_card(folder, model, training, trained)
