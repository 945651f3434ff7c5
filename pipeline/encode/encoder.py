"""The encoder: token ids → float32 vectors, through sentence-transformers' own modules.

What makes it faster than `SentenceTransformer.encode` without changing a vector: tokens are counted, not guessed from
characters, so batches of like length need almost no padding; batches hold a budget of tokens instead of 32 texts; and
there is one result array and one transfer for a whole unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer

from pipeline.encode.half import use_bfloat16_products, use_float16_products
from pipeline.encode.placement import Placement
from pipeline.errors import EncodeError
from pipeline.model.lock import ModelLock
from pipeline.model.modules import find_route

TOKEN_BUDGET = {"cpu": 4096, "cuda": 65_536}
"""Tokens of one forward pass, padding included. On a CPU larger batches fall out of the cache."""

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How torch says it where it has no exception of its own for it: the CPU's allocator, cuBLAS."""


@dataclass(frozen=True, slots=True)
class EncodeStats:
    """Counted since the encoder was made."""

    tokens: int = 0
    padded_tokens: int = 0  # tokens plus padding: what the model computed
    batches: int = 0
    halvings: int = 0  # of the token budget, each after the device ran out of memory


class Encoder:
    """One model replica on one device. For one thread at a time."""

    def __init__(
        self,
        model_directory: str,
        lock: ModelLock,
        placement: Placement,
        *,
        max_tokens: int,
        truncate_dim: int | None = None,
        task: str | None = None,
        prompt: str = "",
        token_budget: int | None = None,
        threads: int | None = None,
    ) -> None:
        """prompt: what stands before every text; pooling may leave its tokens out. threads: of the CPU, process-wide.

        Raises ConfigError for a task the model has no route for.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self.placement = placement
        self.stats = EncodeStats()
        self.max_tokens = max_tokens
        self._model = load_model(model_directory, placement.device)
        self._normalized = lock.normalized
        self._dimensions = min(lock.dimensions, truncate_dim or lock.dimensions)
        self._cut = truncate_dim is not None and truncate_dim < lock.dimensions
        self._arguments: dict[str, Any] = {"task": task} if task is not None else {}
        self._budget = token_budget or TOKEN_BUDGET[placement.device]
        self._model.max_seq_length = max_tokens
        backbone = self._transformer(find_route(Path(model_directory), task))
        self.tokenizer: Any = backbone.tokenizer  # sentence-transformers' own
        self._pad_id = int(self.tokenizer.pad_token_id or 0)
        self._left = self.tokenizer.padding_side == "left"
        features = backbone.preprocess(["text"], prompt=prompt, **self._arguments)
        self._prompt_length = {"prompt_length": features["prompt_length"]} if "prompt_length" in features else {}
        if placement.dtype == "float16":
            use_float16_products(backbone.model, placement.device)
            backbone.register_forward_hook(_to_float32)
        elif placement.dtype == "bfloat16":
            use_bfloat16_products(backbone.model)

    def encode(self, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Vectors of texts given as flat token ids and offsets [n + 1]: float32 [n, dimensions], in the order given.

        Out of memory: the token budget is halved and the batch tried again. Raises EncodeError when one text alone is
        too much, or the model's output has another shape than its lock says.
        """
        lengths = np.diff(offsets)
        out = torch.empty((len(lengths), self._dimensions), dtype=torch.float32, device=self.placement.device)
        todo = list(self._batches(np.argsort(-lengths, kind="stable"), lengths))
        with torch.inference_mode():
            while todo:
                batch = todo.pop(0)
                vectors = self._try_forward(token_ids, offsets, lengths, batch)
                if vectors is None:
                    todo = self._halve(batch, todo, lengths)
                    continue
                if vectors.shape != (len(batch), self._dimensions):
                    raise EncodeError(
                        f"the model gave vectors of shape {tuple(vectors.shape)} for {len(batch)} texts; its lock says "
                        f"{self._dimensions} dimensions"
                    )
                out[torch.from_numpy(batch).to(out.device)] = vectors
        return out.cpu().numpy()

    def _try_forward(
        self,
        token_ids: npt.NDArray[np.int32],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        batch: npt.NDArray[np.int64],
    ) -> torch.Tensor | None:
        """None: out of memory. By then the exception is gone, and with it the tensors its traceback held."""
        try:
            return self._forward(token_ids, offsets, lengths, batch)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
                return None
            raise

    def _forward(
        self,
        token_ids: npt.NDArray[np.int32],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        batch: npt.NDArray[np.int64],
    ) -> torch.Tensor:
        width = max(1, int(lengths[batch].max()))
        ids = np.full((len(batch), width), self._pad_id, np.int64)
        mask = np.zeros((len(batch), width), np.int64)
        for row, text in enumerate(batch):
            n = int(lengths[text])
            place = slice(width - n, width) if self._left else slice(0, n)
            ids[row, place] = token_ids[offsets[text] : offsets[text] + n]
            mask[row, place] = 1
        device = self.placement.device
        features: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids).to(device, non_blocking=True),
            "attention_mask": torch.from_numpy(mask).to(device, non_blocking=True),
            "modality": "text",
            **self._prompt_length,
        }
        vectors: torch.Tensor = self._model(features, **self._arguments)["sentence_embedding"].float()
        if self._cut:
            vectors = vectors[:, : self._dimensions]
            if self._normalized:
                vectors = torch.nn.functional.normalize(vectors, p=2, dim=1)
        self.stats = replace(
            self.stats,
            tokens=self.stats.tokens + int(lengths[batch].sum()),
            padded_tokens=self.stats.padded_tokens + len(batch) * width,
            batches=self.stats.batches + 1,
        )
        return vectors

    def _batches(self, order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        """Runs of texts, longest first, whose padded size fits the budget, or one text. If memory is short, then at once."""
        start = 0
        while start < len(order):
            width = max(1, int(lengths[order[start]]))
            count = max(1, self._budget // width)
            yield order[start : start + count]
            start += count

    def _halve(
        self, batch: npt.NDArray[np.int64], rest: list[npt.NDArray[np.int64]], lengths: npt.NDArray[np.int64]
    ) -> list[npt.NDArray[np.int64]]:
        """What is left to do, in batches of at most half the size of the one that was too big."""
        width = max(1, int(lengths[batch].max()))
        if len(batch) == 1:
            raise EncodeError(
                f"one text of {width} tokens doesn't fit into the memory of the {self.placement.device}; set a lower "
                "model.max_tokens, or give the replica more memory"
            )
        if self.placement.device == "cuda":
            torch.cuda.empty_cache()
        self._budget = max(1, min(self._budget, len(batch) * width) // 2)
        self.stats = replace(self.stats, halvings=self.stats.halvings + 1)
        return list(self._batches(np.concatenate([batch, *rest]), lengths))

    def _transformer(self, route: str | None) -> Any:
        """The Transformer module a text passes; with a Router that of the route."""
        first: Any = self._model[0]
        return first if route is None or not hasattr(first, "sub_modules") else first.sub_modules[route][0]


def load_model(directory: str, device: str) -> SentenceTransformer:
    """sentence-transformers' model in float32, offline, from safetensors, without code of its own, ready to embed."""
    model = SentenceTransformer(
        directory,
        device=device,
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
    )
    model.eval()  # it comes in training mode, with Dropout at work
    model.requires_grad_(False)
    return model


def _to_float32(_module: torch.nn.Module, _arguments: object, output: dict[str, Any]) -> dict[str, Any]:
    """Pooling and everything after it in float32, whatever the transformer computed in."""
    output["token_embeddings"] = output["token_embeddings"].float()
    return output
