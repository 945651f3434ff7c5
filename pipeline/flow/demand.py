"""The least that a job's settings must be good for, measured on a sample of its input before anything is encoded."""

import contextlib
import logging
import random
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from pipeline.config.schema import Config
from pipeline.errors import EmbedpipeError, EncodeError, InputError, RefusedError, first_line
from pipeline.flow.job import Job, encoder_settings, resolve
from pipeline.flow.throwaway import LOADING_S, Ended, Throwaway
from pipeline.source.footers import read_footers
from pipeline.source.read import read_segment
from pipeline.source.records import Segment, UnitPolicy
from pipeline.source.segments import cut_segments

if TYPE_CHECKING:  # torch is loaded where something is measured
    from pipeline.quality.settings import Comparison, Replica

log = logging.getLogger(__name__)

SEGMENTS = 32
"""So many the sample is taken from at least, where there are as many."""


def check_demand(job: Job, segments: Sequence[Segment]) -> None:
    """Raises RefusedError where the config demands a recall that its own settings don't reach on a sample of `segments`, in
    their order. Raises EncodeError where that can't be measured."""
    demand = job.config.quality
    if demand.min_recall is None:
        return
    from pipeline.quality.settings import FEWEST_TEXTS

    texts = sample(job, segments, demand.sample_rows)
    if len(texts) < FEWEST_TEXTS:
        log.warning(
            "quality.min_recall is not measured: %d distinct texts are to be embedded, and %d are needed",
            len(texts),
            FEWEST_TEXTS,
        )
        return
    recall = _measure_apart(job, texts)
    found = f"{recall:.2%} of the ten nearest neighbours by the model's own float32 vectors, over {len(texts):,} texts"
    if recall < demand.min_recall:
        raise RefusedError(
            f"{job.store.root}: these settings find {found} of the input, and quality.min_recall demands "
            f"{demand.min_recall:.2%}; nothing was encoded. `embedpipe evaluate --compare` shows what each setting costs: more "
            "of model.truncate_dim or model.max_tokens, or model.precision exact, find more"
        )
    log.info("these settings find %s; quality.min_recall demands %.2f%%", found, 100 * demand.min_recall)


def compare(config: Config, rows: int) -> "Comparison":
    """Cheaper settings against the model's own, over a sample of the input. Nothing is written.

    Raises as `resolve` and `compare_settings` do.
    """
    from pipeline.quality.settings import compare_settings

    job = resolve(config)
    files = job.discover()
    segments = cut_segments(files, read_footers(files), job.policy)
    texts = sample(job, random.Random(0).sample(segments, len(segments)), rows)
    return compare_settings(_replica(job), encoder_settings(config, job.model.lock), config.model.precision, texts)


def sample(job: Job, segments: Sequence[Segment], rows: int) -> list[str]:
    """Distinct texts, `rows` where there are as many: the first ones of so many segments, in their order, as are needed."""
    texts: dict[str, None] = {}
    each = -(-rows // max(1, min(SEGMENTS, len(segments))))
    for text in _texts(job, segments, each):
        texts[text] = None
        if len(texts) == rows:
            break
    return list(texts)


def _texts(job: Job, segments: Sequence[Segment], each: int) -> Iterator[str]:
    """Of a file that can't be read nobody tells but its reader."""
    policy = UnitPolicy(each, job.policy.text_bytes, job.policy.vector_bytes)
    for segment in segments:
        with contextlib.suppress(InputError):
            unit = next(read_segment(segment, job.extraction, policy, each))
            yield from (text for text in unit.rows["text"].to_pylist() if text)


def _replica(job: Job) -> "Replica":
    from pipeline.quality.settings import Replica

    execution = job.config.execution
    return Replica(job.model, execution.device, execution.threads)


def _measure_apart(job: Job, texts: Sequence[str]) -> float:
    """In a process of its own: one of the texts may end it, and a driver has no need of torch and a model's memory."""
    config = job.config
    process = Throwaway(serve_recall)
    try:
        process.send((_replica(job), encoder_settings(config, job.model.lock), config.model.precision, texts))
        answer = process.receive(LOADING_S)
    except Ended as how:
        raise EncodeError(
            f"quality.min_recall can't be measured: {how}. Where a text of the sample does it, leave quality.min_recall out: the "
            "run will find which one it is"
        ) from None
    finally:
        process.end()
    if isinstance(answer, EmbedpipeError):
        raise answer
    return float(answer)


def serve_recall(connection: Connection) -> None:
    """The throw-away process: arguments of `measure_recall` come in, what it gives or raises goes out."""
    from pipeline.quality.settings import measure_recall

    try:
        connection.send(measure_recall(*connection.recv()))
    except EmbedpipeError as error:
        connection.send(error)
    except Exception as error:  # of a device or a model, whatever it is
        connection.send(EncodeError(f"quality.min_recall can't be measured: {first_line(error, named=True)}"))
