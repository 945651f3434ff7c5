"""Contender: Daft's `embed_text` with its transformers provider, as its documentation shows it."""

from typing import Any

from serve import Encode, serve, versions


def load(settings: dict[str, Any], texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """Its own runner, all cores. The model is loaded anew for each query, since Daft keeps none; and texts are cut where the
    model itself cuts them, since it takes no limit.
    """
    import daft
    import numpy as np
    from daft.functions import embed_text
    from sentence_transformers import SentenceTransformer

    limit = SentenceTransformer(settings["model"], device="cpu").max_seq_length
    if limit != settings["max_tokens"]:
        raise ValueError(f"it cuts texts at {limit} tokens, the others at {settings['max_tokens']}")

    def encode(texts: list[str]) -> Any:
        frame = daft.from_pydict({"text": texts})
        vectors = frame.select(
            embed_text(daft.col("text"), provider="transformers", model=settings["model"]).alias("v")
        )
        column = vectors.to_arrow()["v"].combine_chunks()
        return np.asarray(column.flatten()).reshape(len(texts), -1)

    encode(texts[:32])
    return encode, {"model": "loaded in each round", **versions("daft")}


if __name__ == "__main__":
    serve(load)
