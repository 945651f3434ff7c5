"""How fast a replica is on this machine: a few of the job's own texts are encoded against the clock."""

import time
from collections.abc import Sequence

from pipeline.encode.placement import Placement
from pipeline.errors import ModelError
from pipeline.flow.job import Job, encoder_settings
from pipeline.quality.sample import stratify
from pipeline.text.tokens import Tokens

WARM_UP_TEXTS = 4
"""The first passes through a model are slow: memory is allocated, kernels are chosen."""

PARTS, ENOUGH_S = 4, 2.0
"""The texts are encoded in so many parts, each of all lengths, until this much time has gone."""


def measure_tokens_per_s(job: Job, texts: Sequence[str], placement: Placement) -> float | None:
    """Tokens per second of one replica placed like this; None when that can't be told: no texts, no device.

    Raises ModelError for a model that can't be loaded: a run would end so.
    """
    settings = encoder_settings(job.config, job.model.lock)
    chosen = [settings.prompt + text for text in stratify(texts)]
    if not chosen:
        return None
    from pipeline.encode.encoder import Encoder  # with torch; not needed where nothing is pending

    tokens = Tokens(job.model.directory, settings.max_tokens)
    try:
        encoder = Encoder(
            job.model.directory,
            job.model.lock,
            placement,
            settings,
            threads=job.config.execution.threads,
        )
        encoder.encode(*tokens.encode(chosen[-WARM_UP_TEXTS:])[:2])
        parts = [tokens.encode(part)[:2] for first in range(PARTS) if (part := chosen[first::PARTS])]
        count, started, seconds = 0, time.perf_counter(), 0.0
        for ids, offsets in parts:
            encoder.encode(ids, offsets)
            count, seconds = count + len(ids), time.perf_counter() - started
            if seconds > ENOUGH_S:
                break
        return count / seconds
    except ModelError:
        raise
    except Exception:  # of this machine: a run may be elsewhere, and will say what is wrong; a plan needs no replica
        return None
