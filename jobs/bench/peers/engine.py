"""Contender: embedpipe's engine alone, tokenising included."""

from pathlib import Path
from typing import Any

from serve import Encode, serve

from pipeline.encode.encoder import Encoder
from pipeline.encode.placement import choose_placement
from pipeline.model.inspect import inspect_model
from pipeline.text.tokens import Tokens


def load(settings: dict[str, Any], texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """`precision`: as in a job."""
    placement = choose_placement(settings["precision"], "cpu")
    lock = inspect_model(Path(settings["model"]), "bench", None)
    limit = settings["max_tokens"]
    tokens = Tokens(settings["model"], limit)
    encoder = Encoder(settings["model"], lock, placement, max_tokens=limit, threads=settings["threads"])

    def encode(texts: list[str]) -> Any:
        ids, offsets, _ = tokens.encode(texts)
        return encoder.encode(ids, offsets)

    encode(texts[:32])
    return encode, {"dtype": placement.dtype, "fast": encoder.fast}


if __name__ == "__main__":
    serve(load)
