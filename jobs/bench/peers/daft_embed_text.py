"""Contender: Daft's `embed_text` with its transformers provider, as its documentation shows it."""

from typing import Any

from serve import Encode, serve


def load(settings: dict[str, Any], texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """Its own runner, all cores. The model is loaded anew for each query: Daft keeps none."""
    import daft
    from daft.functions import embed_text

    def encode(texts: list[str]) -> Any:
        frame = daft.from_pydict({"text": texts})
        vectors = frame.select(
            embed_text(daft.col("text"), provider="transformers", model=settings["model"]).alias("v")
        )
        return vectors.to_pydict()["v"]

    encode(texts[:32])
    return encode, {"version": daft.__version__}


if __name__ == "__main__":
    serve(load)
