"""Contender: embedpipe's engine alone, tokenising included."""

from typing import Any

from serve import Encode, serve

from pipeline.encode.settings import EncoderSettings
from pipeline.model.resolve import resolve_model
from pipeline.quality.gate import load_gated
from pipeline.quality.sample import stratify
from pipeline.text.tokens import Tokens


def load(settings: dict[str, Any], texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """`precision`: as in a job; the replica has passed the parity gate."""
    limit = settings["max_tokens"]
    tokens = Tokens(settings["model"], limit)
    encoder, gate = load_gated(
        resolve_model(settings["model"], None, None),
        EncoderSettings(limit, token_budget=settings.get("token_budget")),
        texts=stratify(texts),
        precision=settings["precision"],
        device="cpu",
        threads=settings["threads"],
    )

    def encode(texts: list[str]) -> Any:
        ids, offsets, _ = tokens.encode(texts)
        return encoder.encode(ids, offsets)

    encode(texts[:32])
    return encode, {"dtype": gate.dtype, "fast": encoder.fast}


if __name__ == "__main__":
    serve(load)
