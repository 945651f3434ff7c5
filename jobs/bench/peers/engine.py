"""Contender: embedpipe's engine alone, tokenising included, which is done for the next texts while some are encoded."""

from contextlib import closing
from typing import Any

import numpy as np
from serve import Encode, serve

from pipeline.encode import compiled
from pipeline.encode.settings import EncoderSettings
from pipeline.flow.overlap import ahead
from pipeline.model.resolve import resolve_model
from pipeline.quality.gate import load_gated
from pipeline.quality.sample import stratify
from pipeline.text.tokens import Tokens


def load(settings: dict[str, Any], texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """`precision`: as in a job; the replica has passed the parity gate. `unit_texts` are tokenised and encoded at a time.

    `compiled`: as in a job that has lasted a while.
    """
    if settings.get("compiled"):
        compiled.AFTER_S[settings["device"]] = 0.0
    limit, unit = settings["max_tokens"], settings["unit_texts"]
    tokens = Tokens(settings["model"], limit)
    encoder, gate = load_gated(
        resolve_model(settings["model"], None, None),
        EncoderSettings(limit, token_budget=settings.get("token_budget")),
        texts=stratify(texts),
        precision=settings["precision"],
        device=settings["device"],
        threads=settings["threads"],
    )

    def encode(texts: list[str]) -> Any:
        units = (texts[first : first + unit] for first in range(0, len(texts), unit))
        parts = (tokens.encode(texts)[:2] for texts in units)
        with closing(ahead(parts, 1)) as tokenised:
            return np.concatenate([encoder.encode(*part) for part in tokenised])

    encode(texts[:32])
    encode(texts[:32])  # what is compiled is compiled now
    compiling = {"compiled": encoder.compiled} if settings.get("compiled") else {}
    return encode, {"dtype": gate.dtype, "fast": encoder.fast, "token_budget": encoder.token_budget, **compiling}


if __name__ == "__main__":
    serve(load)
