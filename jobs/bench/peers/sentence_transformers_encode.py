"""Contender: `SentenceTransformer.encode`, as it comes or tuned, on torch, ONNX Runtime or OpenVINO."""

import functools
from typing import Any

from serve import Encode, fastest, serve, versions


def load(settings: dict[str, Any], texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """`backend`; `variants`: (batch size, number format) of which the fastest is taken."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(settings["threads"])
    backend, limit = settings["backend"], settings["max_tokens"]

    @functools.cache
    def model(dtype: str) -> Any:
        options: dict[str, Any]
        if backend == "torch":
            options = {"dtype": getattr(torch, dtype)}
        elif backend == "openvino":
            options = {"ov_config": {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype]}}
        else:
            options = {"provider": "CPUExecutionProvider"}
        loaded = SentenceTransformer(
            settings["model"], device=settings["device"], backend=backend, model_kwargs=options
        )
        loaded.max_seq_length = limit
        return loaded

    def variant(size: int, dtype: str) -> Encode:
        return lambda texts: model(dtype).encode(texts, batch_size=size, show_progress_bar=False)

    candidates = {(size, dtype): variant(size, dtype) for size, dtype in settings["variants"]}
    size, dtype = fastest(candidates, texts) if len(candidates) > 1 else next(iter(candidates))
    encode = candidates[size, dtype]
    encode(texts[:32])
    package = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}[backend]
    return encode, {"batch_size": size, "dtype": dtype, **versions("sentence-transformers", package)}


if __name__ == "__main__":
    serve(load)
