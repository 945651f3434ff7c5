"""Training: sentence-transformers' own trainer, from pairs to a finished model, over any number of killed processes."""

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sentence_transformers.sentence_transformer.losses import ContrastiveLoss, SiameseDistanceMetric
from transformers import (
    PrinterCallback,
    SchedulerType,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from pipeline.config.training import Training
from pipeline.errors import ConfigError, EmbedpipeError, EncodeError, StorageError, first_line
from pipeline.evaluate.pairs import LabelledPairs, read_pairs
from pipeline.evaluate.plot import plot_curve
from pipeline.progress.reporters import count_text
from pipeline.train.build import build_model
from pipeline.train.card import CURVE, write_card
from pipeline.train.checkpoints import last_whole, name_of, seal, step_of
from pipeline.train.files import writing
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
    "the model gives NaN or infinity: training has gone astray; lower schedule.learning_rate, and choose another output"
)

LOG_STEPS = 8
"""Points of the curve are so far apart, or as far as an epoch has steps; each checkpoint has one too."""

log = logging.getLogger(__name__)


def train_model(training: Training, report: Report) -> Trained:
    """Train as asked, going on from the last checkpoint where there is one; what has ended is not done again.

    Raises InputError for pairs that can't be used, ModelError and ConfigError for a model that can't, before anything is
    computed; RefusedError where `output` is another process's, holds another training or anything else; EncodeError where the
    device's memory doesn't suffice or the weights run away; StorageError where nothing can be written.
    """
    started = time.monotonic()
    device = _device(training)
    pairs = read_pairs(training.pairs, "pairs")
    held_out = read_pairs(training.evaluation, "evaluation") if training.evaluation is not None else None
    _tell_contradictions(pairs)
    place = open_workplace(training.output)
    with _told(training), place.claimed(training, [pairs, held_out] if held_out is not None else [pairs]):
        ended = place.result()
        return ended if ended is not None else _train(training, pairs, held_out, place, device, started, report)


def _train(
    training: Training,
    pairs: LabelledPairs,
    held_out: LabelledPairs | None,
    place: Workplace,
    device: str,
    started: float,
    report: Report,
) -> Trained:
    with tempfile.TemporaryDirectory(prefix="embedpipe-train-") as folder:
        model = build_model(
            training.model,
            (*pairs.first, *pairs.second),
            Path(folder),
            similarity=training.loss.distance,
            device=device,
            seed=training.schedule.seed,
        )
    measure = _Measure(training, held_out)
    watch = _Watch(place, report)
    before = watch.before(lambda: measure(model))
    trainer = _trainer(training, model, pairs, measure, place)
    steps_before = _fit(trainer, watch, place)
    _refuse_astray(model, pairs, training)
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
        steps=trainer.args.max_steps,
        steps_before=steps_before,
        seconds=round(time.monotonic() - started, 1),
        before=before,
        after=after,
        metric=f"{EVALUATION}_{training.loss.distance}_ap" if held_out is not None else "",
        device=device,
        base=training.model.base,
        evaluated_trained=_count_common(held_out, pairs) if held_out is not None else 0,
    )

    def save(folder: Path) -> None:
        with writing(folder):
            model.save(str(folder), create_model_card=False)
        plot_curve([asdict(point) for point in watch.points], trained.metric, folder / CURVE)
        write_card(folder, model, training, trained, trainer.parts())

    place.finish(trained, save)
    return trained


def _unordered(pairs: LabelledPairs) -> list[tuple[str, ...]]:
    """Each pair as the loss sees it, to which the order of its texts is nothing."""
    return [tuple(sorted(pair)) for pair in pairs.texts]


def _count_common(some: LabelledPairs, others: LabelledPairs) -> int:
    """How many of some pairs are among the others."""
    known = set(_unordered(others))
    return sum(pair in known for pair in _unordered(some))


def _tell_contradictions(pairs: LabelledPairs) -> None:
    labels: dict[tuple[str, ...], int] = {}
    both = set()
    for pair, label in zip(_unordered(pairs), pairs.labels, strict=True):
        if labels.setdefault(pair, label) != label:
            both.add(pair)
    if both:
        log.warning(
            "pairs: %s with label 1 in one row and 0 in another; nothing is learnt from that. Give each pair one label",
            count_text(len(both), "pair"),
        )


@contextmanager
def _told(training: Training) -> Iterator[None]:
    """What a device or a disk makes libraries raise leaves this block as an error of the tree."""
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


def _fit(trainer: "_Trainer", watch: "_Watch", place: Workplace) -> int:
    """Train from the last checkpoint, or from the beginning; steps that were done before."""
    trainer.add_callback(watch)
    checkpoint = last_whole(place.checkpoints)
    try:
        if checkpoint is not None and step_of(checkpoint) >= trainer.args.max_steps:
            trainer.load(checkpoint)
            return step_of(checkpoint)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except (EmbedpipeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if checkpoint is None or watch.stepping:
            raise
        # Its files are as they were written: other versions of the libraries have done that.
        raise StorageError(
            f"{checkpoint}: it can't be gone on from ({first_line(error, named=True)}); go on with the versions it was written "
            "by, or remove it to go on from the checkpoint before it"
        ) from error
    return 0 if checkpoint is None else step_of(checkpoint)


def _refuse_astray(model: SentenceTransformer, pairs: LabelledPairs, training: Training) -> None:
    """The last steps may have gone where neither a loss nor an evaluation has looked."""
    vectors = model.encode(list(pairs.first[: training.schedule.batch_size]), convert_to_tensor=True)
    found = (vectors, *(parameter for parameter in model.parameters()))
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise EncodeError(ASTRAY)


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
) -> "_Trainer":
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
        save_total_limit=None,  # or it would take a folder of anybody's beside them for an old one
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

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir), name_of(self.state.global_step))
        with writing(folder):
            super()._save_checkpoint(model, trial)
            seal(folder)

    def load(self, checkpoint: Path) -> None:
        """The weights, where that is all there is to do: told to go on from its last step, `train` would take another."""
        self._load_from_checkpoint(str(checkpoint))

    def parts(self) -> dict[str, str]:
        """What it trained with, by name, for people."""
        optimizer, values = self.get_optimizer_cls_and_kwargs(self.args)
        beta1, beta2 = values["betas"]
        batches: Any = self.get_train_dataloader().batch_sampler
        loss: Any = self.loss
        settings = ", ".join(f"{name} {value}" for name, value in loss.get_config_dict().items())
        return {
            "loss": f"{type(loss).__name__}, {settings}",
            "optimizer": f"{optimizer.__name__}, betas {beta1:g} and {beta2:g}, epsilon {values['eps']:g}",
            "scheduler": f"{SchedulerType(self.args.lr_scheduler_type).value}, after the warm-up",
            "sampler": type(batches.sampler).__name__,
            "evaluator": "none" if self.evaluator is None else type(self.evaluator).__name__,
        }


class _Watch(TrainerCallback):
    """Tells how far training is, and keeps the curve."""

    def __init__(self, place: Workplace, report: Report) -> None:
        self._place, self._report = place, report
        self.points = place.read_curve()
        self.stepping = False  # whether all there is to load was loaded

    def before(self, measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Metrics of the model as it was built; measured once, whatever is killed later."""
        if not self.points or self.points[0].step:
            self.points = []
            self._add(Step(0, 0, 0.0, metrics=measure()))
        return self.points[0].metrics

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:  # noqa: ARG002
        self.stepping = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:  # noqa: ARG002
        # A checkpoint doesn't hold the losses since the last point: with a point of its own there are none.
        control.should_log |= control.should_save

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
        if last.metrics != metrics:
            self._add(Step(last.step, last.steps, last.epoch, metrics=metrics))

    def _add(self, point: Step) -> None:
        # A run that was killed may have got further than its last checkpoint: that part is done again.
        kind = bool(point.metrics)
        self.points = [
            one
            for one in self.points
            if one.step < point.step or (one.step == point.step and bool(one.metrics) != kind)
        ]
        self.points.append(point)
        self._place.write_curve(self.points)
        self._report(point)


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in metrics.items()}
