"""The encoder: token ids → float32 vectors, through sentence-transformers' own modules.

What makes it faster than `SentenceTransformer.encode` without changing a vector: texts are sorted by their tokens and lie
packed one behind the other, so that nothing is computed for padding; a batch holds a budget of tokens instead of 32 texts;
each core of a CPU has a batch of its own; products are merged and prepacked; and a unit is one result array and one transfer.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer

from pipeline.encode import compiled
from pipeline.encode.arrange import (
    CHECK_TOKENS,
    arrange_fast,
    arrange_plain,
    changes_itself,
    has_fast_way,
    most_at_once,
    padded,
)
from pipeline.encode.attention import EQUAL_TOKENS
from pipeline.encode.blame import blamed_on_model
from pipeline.encode.budget import fastest_budget, repeated
from pipeline.encode.distance import furthest
from pipeline.encode.layout import Layout
from pipeline.encode.memory import free_memory
from pipeline.encode.placement import Placement
from pipeline.encode.settings import EncoderSettings
from pipeline.encode.share import Batches, run_beside
from pipeline.encode.texts import Texts, in_given_order, longest_first
from pipeline.errors import EncodeError
from pipeline.model.lock import ModelLock
from pipeline.model.modules import find_route

log = logging.getLogger(__name__)

TOKEN_BUDGET = {"cpu": 2048, "cuda": 65_536}
"""Tokens of one forward pass, padding included. On a CPU, where each core has a pass of its own, larger ones fall out of the
cache; on a GPU it serves until the model's own is found, see budget.py."""

LONGEST_PASS_S = 60.0
"""A forward pass is the only sign of life of a CPU: where the longest text takes longer on one core, more of them share it."""

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How torch says it where it has no exception of its own for it: the CPU's allocator, cuBLAS."""


CHECK_BOUND = {"float32": 1e-4, "bfloat16": 0.03, "float16": 0.03}
"""How far a vector of the fast way may be from the plain one's, relative to its length. Wrong is far away; how good half
precision is, the parity gate says."""


@dataclass(frozen=True, slots=True)
class EncodeStats:
    """Counted since the encoder was made."""

    tokens: int = 0
    padded_tokens: int = 0  # tokens plus padding: what the model computed
    batches: int = 0
    out_of_memory: int = 0  # forward passes that found no memory


class Encoder:
    """One model replica on one device. For one thread at a time.

    compile_within: what compiling layers, which may take minutes in the middle of a unit, is done within; None: never compile.
    fast: whether it runs another way than sentence-transformers does. compiled: whether layers are. token_budget: tokens of one
    forward pass, padding included.
    """

    def __init__(
        self,
        model_directory: str,
        lock: ModelLock,
        placement: Placement,
        settings: EncoderSettings,
        *,
        threads: int | None = None,
        fast: bool = True,
    ) -> None:
        """threads: of the CPU, process-wide. fast: where that is right for the model.

        Raises ConfigError for a task the model has no route for, EncodeError where its vectors aren't what its lock says.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self.placement = placement
        self.stats = EncodeStats()
        self.compile_within: Callable[[], AbstractContextManager[None]] | None = nullcontext
        self._busy_s = 0.0  # encoding
        self._threads = 1  # batches at once
        self._counting = threading.Lock()
        # Texts to compare compiled layers on, until that has been tried.
        self._compile_with: tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]] | None = None
        self.max_tokens = settings.max_tokens
        self._normalized = lock.normalized
        self._dimensions = min(lock.dimensions, settings.truncate_dim or lock.dimensions)
        self._cut = self._dimensions < lock.dimensions
        self._arguments: dict[str, Any] = {"task": settings.task} if settings.task is not None else {}
        self.compiled = False
        self.token_budget = budget = settings.token_budget or TOKEN_BUDGET[placement.device]
        self._model, transformer = self._load(model_directory, settings.task)
        self.tokenizer: Any = transformer.tokenizer  # sentence-transformers' own
        features = transformer.preprocess(["text"], prompt=settings.prompt, **self._arguments)
        self._prompt_length = {"prompt_length": features["prompt_length"]} if "prompt_length" in features else {}
        self._layout: Layout = padded(transformer)
        some = self._tokenise([settings.prompt + text for text in check_texts(self.tokenizer)])
        self.fast = fast and has_fast_way(transformer, placement, self.max_tokens)
        if self.fast and (doubt := self._arrange_checked(transformer, *some)) is not None:
            log.warning("%s is run the plain way: the fast one %s", lock.name, doubt)
            self.fast, self._threads = False, 1
            del self._model, transformer, features
            free_memory()
            self._model, transformer = self._load(model_directory, settings.task)
        if not self.fast:
            self._layout = arrange_plain(transformer, placement)
        self.token_budget = budget
        if settings.token_budget is None and placement.device == "cuda":
            self.token_budget = fastest_budget(lambda budget: self._rate(budget, *some))
            log.debug("%s: %d tokens a batch", lock.name, self.token_budget)
        self.stats = EncodeStats()
        self._busy_s = 0.0
        self._compile_with = some if self.fast and placement.device in compiled.AFTER_S else None

    def encode(self, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Vectors of texts given as flat token ids and offsets [n + 1]: float32 [n, dimensions], in the order given.

        Out of memory: the token budget is halved and the batch done in pieces. Raises EncodeError when one text alone
        is too much, or the model's output has another shape than its lock says.
        """
        if self._compile_with is not None and self._busy_s > compiled.AFTER_S[self.placement.device]:
            self._try_compiled(*self._compile_with)
        began = time.perf_counter()
        texts = longest_first(token_ids, offsets, self.placement.device)
        out = torch.empty((len(texts), self._dimensions), dtype=torch.float32, device=self.placement.device)
        threads = max(1, min(self._threads, len(texts)))
        batches = Batches(texts, self._layout, threads)
        left: list[tuple[int, int]] = []

        def work() -> None:
            try:
                while (batch := batches.take(self.token_budget)) is not None:
                    if threads == 1:
                        self._encode_smaller(texts, *batch, out)
                    elif not self._encode_batch(texts, *batch, out):
                        left.append(batch)
            except BaseException:
                batches.end()
                raise

        run_beside(work, threads)
        for first, stop in left:  # one after the other, now that no other thread holds memory
            self._encode_smaller(texts, first, stop, out)
        found = in_given_order(out, texts.order)
        self._busy_s += time.perf_counter() - began
        return found

    def _encode_batch(self, texts: Texts, first: int, stop: int, out: torch.Tensor) -> bool:
        """False: out of memory, and the token budget is smaller now than these were."""
        vectors = self._try_forward(texts, first, stop)
        if vectors is None:
            self._lower_budget(texts, first, stop)
            return False
        if vectors.shape != (stop - first, self._dimensions):
            raise EncodeError(
                f"the model gave vectors of shape {tuple(vectors.shape)} for {stop - first} texts; its lock says "
                f"{self._dimensions} dimensions"
            )
        out[first:stop] = vectors
        return True

    def _encode_smaller(self, texts: Texts, first: int, stop: int, out: torch.Tensor) -> None:
        """A batch, in pieces where it is too big. Raises EncodeError when one text alone is."""
        while first < stop:
            end = min(stop, self._layout.cut(texts, first, self.token_budget))
            if self._encode_batch(texts, first, end, out):
                first = end
            elif end - first == 1:
                raise EncodeError(
                    f"one text of {texts.lengths[first]} tokens doesn't fit into the memory of the {self.placement.device}; set "
                    "a lower model.max_tokens, or give the replica more memory"
                )

    def _try_forward(self, texts: Texts, first: int, stop: int) -> torch.Tensor | None:
        """None: out of memory. By then the exception is gone, and with it the tensors its traceback held."""
        try:
            with torch.inference_mode():
                return self._forward(texts, first, stop)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
                return None
            raise

    def _forward(self, texts: Texts, first: int, stop: int) -> torch.Tensor:
        features = {**self._layout.features(texts, first, stop), "modality": "text", **self._prompt_length}
        vectors: torch.Tensor = self._model(features, **self._arguments)["sentence_embedding"].float()
        if self._cut:
            vectors = vectors[:, : self._dimensions]
            if self._normalized:
                vectors = torch.nn.functional.normalize(vectors, p=2, dim=1)
        with self._counting:
            self.stats = replace(
                self.stats,
                tokens=self.stats.tokens + int(texts.starts[stop] - texts.starts[first]),
                padded_tokens=self.stats.padded_tokens + self._layout.size(texts, first, stop),
                batches=self.stats.batches + 1,
            )
        return vectors

    def _lower_budget(self, texts: Texts, first: int, stop: int) -> None:
        """To half the size of a batch that was too big, unless another thread has seen to it, or it was one text."""
        if self.placement.device == "cuda":
            torch.cuda.empty_cache()
        size = self._layout.size(texts, first, stop)
        with self._counting:
            self.stats = replace(self.stats, out_of_memory=self.stats.out_of_memory + 1)
            if stop - first > 1 and size <= self.token_budget:
                self.token_budget = max(1, size // 2)
                log.info(
                    "no memory for a batch of %d tokens: they have at most %d from now on", size, self.token_budget
                )

    def _tokenise(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Flat ids and offsets, none of the texts longer than the check wants them."""
        rows = self.tokenizer(list(texts), truncation=True, max_length=min(self.max_tokens, CHECK_TOKENS))["input_ids"]
        ids = np.concatenate([np.asarray(row, np.int32) for row in rows])
        return ids, np.cumsum([0, *map(len, rows)], dtype=np.int64)

    def _rate(self, budget: int, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> float | None:
        """Tokens per second with batches of that many tokens; None where there is no memory for them."""
        ids, offsets = repeated(token_ids, offsets, 2 * budget)
        self.token_budget, before = budget, self.stats.out_of_memory
        self.encode(ids, offsets)  # takes memory and chooses kernels
        began = time.perf_counter()
        self.encode(ids, offsets)
        return len(ids) / (time.perf_counter() - began) if self.stats.out_of_memory == before else None

    def _try_compiled(self, ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> None:
        stats, budget, self._compile_with = self.stats, self.token_budget, None
        if self.compile_within is None:
            return
        with self.compile_within():
            self.compiled, outcome = compiled.try_compiled(
                self._model, lambda: self.encode(ids, offsets), lambda: self._rate(budget, ids, offsets)
            )
        self.stats, self.token_budget = stats, budget
        log.info("%s", outcome)

    def _arrange_checked(
        self, transformer: Any, ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
    ) -> str | None:
        """Arrange the model for speed. What speaks against it: other vectors than before for a few texts, or an error."""
        expected = self.encode(ids, offsets)
        try:
            self._layout = arrange_fast(transformer, self.placement, self.max_tokens)
            self._threads = self._threads_for(transformer, len(ids))
            found = self.encode(ids, offsets)
            if self.placement.device == "cuda":  # many texts of one length are attended to in another way there
                longest = ids[offsets[-2] : offsets[-1]]
                equal = self.encode(*repeated(longest, np.array([0, len(longest)]), EQUAL_TOKENS))
                found = np.concatenate([found, equal])
                expected = np.concatenate([expected, np.repeat(expected[-1:], len(equal), axis=0)])
        except Exception as error:  # whatever a model makes of what its author didn't think of
            return f"fails ({type(error).__name__}: {error})"
        distance = furthest(found, expected)
        return (
            None if distance <= CHECK_BOUND[self.placement.dtype] else f"gives other vectors (distance {distance:.2g})"
        )

    def _threads_for(self, transformer: Any, tokens: int) -> int:
        """How many batches are encoded at once, after one of so many tokens that the whole CPU took `_busy_s` for."""
        cores = torch.get_num_threads()
        if self.placement.device != "cpu" or changes_itself(transformer.model):
            return 1
        pass_s = self._busy_s * self.max_tokens / tokens  # of the longest text, by all cores
        return max(1, min(cores, int(LONGEST_PASS_S // max(pass_s, 1e-9)), most_at_once(transformer, self.max_tokens)))

    def _load(self, directory: str, task: str | None) -> tuple[SentenceTransformer, Any]:
        """The model, and the Transformer module a text passes; with a Router that of the route."""
        model = load_model(directory, self.placement.device)
        model.max_seq_length = self.max_tokens
        route = find_route(Path(directory), task)
        first: Any = model[0]
        transformer = first if route is None or not hasattr(first, "sub_modules") else first.sub_modules[route][0]
        transformer.register_forward_hook(_to_float32)
        return model, transformer


def check_texts(tokenizer: Any) -> list[str]:
    """What the fast way is tried on: nothing, texts of equal length, special tokens, and one that is longer than most windows
    and never repeats itself: what is lost at the edge of a window must not be found again inside."""
    rng = random.Random("embedpipe")
    words = ["".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(1, 9))) for _ in range(CHECK_TOKENS)]
    special = " ".join(tokenizer.all_special_tokens)
    return ["", "word", "another", "a few words in a row", "a row in a few words", special, " ".join(words)]


def load_model(directory: str, device: str) -> SentenceTransformer:
    """sentence-transformers' model in float32, offline, from safetensors, without code of its own, ready to embed.

    Raises ModelError where the model is to blame that it can't be loaded. What this machine lacks is raised as it comes.
    """
    with blamed_on_model(directory, "can't be loaded"):
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
