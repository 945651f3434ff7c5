"""The least that a job's settings must be good for, measured on a sample of its input before anything is encoded."""

import contextlib
import itertools
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
from pipeline.source.records import Extraction, Segment, UnitPolicy
from pipeline.source.segments import cut_segments

if TYPE_CHECKING:  # torch is loaded where something is measured
    from pipeline.quality.settings import Comparison

log = logging.getLogger(__name__)

SEGMENTS = 32
"""So many the sample is taken from at least, where there are as many."""

UNITS = 20
"""Read of one file at most, each of as many rows as it is to give, while it gives too few distinct texts."""

SAMPLE_BYTES = 256 << 20
"""Of text, at most: a sample of long documents has fewer of them."""


def check_demand(job: Job, segments: Sequence[Segment]) -> None:
    """Raises RefusedError where the config demands a recall that its own settings don't reach on a sample of `segments`, the
    same one whatever their order. Raises EncodeError where that can't be measured."""
    demand = job.config.quality
    if demand.min_recall is None:
        return
    ordered = sorted(segments, key=lambda segment: (segment.pieces[0].file.uri, segment.pieces[0].start))
    texts, recall = _measure_apart(job, _shuffled(ordered, job.spec.spec_id), demand.sample_rows)
    if recall is None:
        log.warning("quality.min_recall is not measured: %d distinct texts are too few to compare", texts)
        return
    found = f"{recall:.2%} of the ten nearest neighbours by the model's own float32 vectors, over {texts:,} texts"
    if recall < demand.min_recall:
        raise RefusedError(
            f"{job.store.root}: these settings find {found} of the input, and quality.min_recall demands "
            f"{demand.min_recall:.2%}; nothing more is encoded. `embedpipe evaluate --compare` shows what each setting costs: "
            "more of model.truncate_dim or model.max_tokens, or model.precision exact, find more"
        )
    log.info("these settings find %s; quality.min_recall demands %.2f%%", found, 100 * demand.min_recall)


def compare(config: Config, rows: int) -> "Comparison":
    """Cheaper settings against the model's own, over a sample of the input. Nothing is written.

    Raises as `resolve` and `compare_settings` do.
    """
    from pipeline.quality.settings import Replica, compare_settings

    job = resolve(config)
    files = job.discover()
    segments = _shuffled(cut_segments(files, read_footers(files), job.policy), job.spec.spec_id)
    texts = sample(segments, job.extraction, job.policy, rows)
    replica = Replica(job.model, config.execution.device, config.execution.threads)
    return compare_settings(replica, encoder_settings(config, job.model.lock), config.model.precision, texts)


def sample(segments: Sequence[Segment], extraction: Extraction, policy: UnitPolicy, rows: int) -> list[str]:
    """Distinct texts, about `rows` where there are as many: from the beginnings of so many segments, in their order, as are
    needed. Of a file that can't be read nobody tells but its reader."""
    found: dict[str, None] = {}
    left = SAMPLE_BYTES
    share = -(-rows // max(1, min(SEGMENTS, len(segments))))
    for each in (share, rows):  # what is short then, because some have fewer, comes from those that have more
        few = UnitPolicy(each, policy.text_bytes, policy.vector_bytes)
        for segment in segments:
            if len(found) == rows or left <= 0:
                break
            wanted = min(rows, len(found) + each)
            for text in _texts(segment, extraction, few):
                if len(found) >= wanted or left <= 0:
                    break
                left -= len(text) if text not in found else 0
                found[text] = None
    return list(found)


def _texts(segment: Segment, extraction: Extraction, policy: UnitPolicy) -> Iterator[str]:
    for piece in segment.pieces:
        with contextlib.suppress(InputError):
            units = read_segment(Segment((piece,)), extraction, policy, policy.rows)
            for unit in itertools.islice(units, UNITS):
                yield from (text for text in unit.rows["text"].to_pylist() if text)


def _shuffled(segments: Sequence[Segment], seed: str) -> list[Segment]:
    return random.Random(seed).sample(segments, len(segments))


def _measure_apart(job: Job, segments: Sequence[Segment], rows: int) -> tuple[int, float | None]:
    """How many texts were compared, and the recall; None for too few. In a process of its own: a file or a text may end it, and
    a driver has no need of torch and a model's memory."""
    config = job.config
    execution, wanted = config.execution, encoder_settings(config, job.model.lock)
    source = (segments[: max(SEGMENTS, rows)], job.extraction, job.policy, rows)
    process = Throwaway(serve_recall)
    try:
        process.send((source, job.model, execution.threads, wanted, config.model.precision), LOADING_S)
        answer = process.receive(LOADING_S)
        while isinstance(answer, str):  # a sign of life
            answer = process.receive(LOADING_S)  # for the second model
    except Ended as how:
        raise EncodeError(
            f"quality.min_recall can't be measured: {how}. Where it is a file or a text of the sample that does it, leave "
            "quality.min_recall out: the run will find which one it is"
        ) from None
    finally:
        process.end()
    if isinstance(answer, EmbedpipeError):
        raise answer
    texts, recall = answer
    return texts, recall


def serve_recall(connection: Connection) -> None:
    """The throw-away process: what to measure comes in; out go signs of life, and (texts, recall) or what was raised."""
    from pipeline.quality.settings import FEWEST_TEXTS, Replica, measure_recall

    source, model, threads, wanted, precision = connection.recv()
    try:
        texts = sample(*source)
        recall = None
        if len(texts) >= FEWEST_TEXTS:
            # On this machine, whatever the workers have: the parity gate sees to what their number format may cost.
            replica = Replica(model, "auto", threads)
            recall = measure_recall(replica, wanted, precision, texts, lambda: connection.send("at it"))
        connection.send((len(texts), recall))
    except EmbedpipeError as error:
        connection.send(error)
    except Exception as error:  # of a device or a model, whatever it is
        connection.send(EncodeError(f"quality.min_recall can't be measured: {first_line(error, named=True)}"))
