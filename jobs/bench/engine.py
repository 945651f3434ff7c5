"""The engine alone against its peers: texts in, vectors out, in turns, with the machine's own bound beside them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.bench.contenders import (
    ALL,
    DEFAULT,
    EXACT,
    FORMATS,
    GATED,
    UNIT_TEXTS,
    Contender,
    PeerError,
    Running,
    round_settings,
)
from jobs.bench.texts import MIXED, make_texts
from jobs.figures.parity import measure_parity
from pipeline.text.tokens import Tokens

PRODUCTS = Contender("products", "products.py")
PARITY_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Size:
    """What of a model of BERT's or Llama's kind its work is reckoned from."""

    hidden: int
    inner: int
    layers: int
    queries: int  # their width, all heads together
    keys: int  # and that of keys, and of values
    decoder: bool  # a gate beside the wider product, and tokens see only those before them

    @classmethod
    def of(cls, model: str) -> "Size":
        """Read from the model's config.json."""
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        grouped = config.get("num_key_value_heads")
        return cls(
            config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"],
            heads * head, (grouped or heads) * head, grouped is not None,
        )  # fmt: skip

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Products of a layer: (out, in, how often)."""
        return [
            (self.queries + 2 * self.keys, self.hidden, 1), (self.hidden, self.queries, 1),
            (self.inner, self.hidden, 2 if self.decoder else 1), (self.hidden, self.inner, 1),
        ]  # fmt: skip

    def flop(self, lengths: Sequence[int]) -> float:
        """Of the products and of attention, for texts of these lengths in tokens, without padding."""
        per_token = sum(2 * out * into * times for out, into, times in self.shapes)
        per_pair = (2 if self.decoder else 4) * self.queries
        return float(self.layers * sum(n * per_token + n * n * per_pair for n in lengths))


def measure_engine(
    folder: Path,
    model: str,
    texts: Sequence[str],
    contenders: Sequence[Contender] = ALL,
    *,
    max_tokens: int,
    rounds: int,
    device: str = "cpu",
    unit_texts: int = UNIT_TEXTS,
) -> dict[str, Any]:
    """Rounds in turns on the same texts. Of each contender: seconds of each round, parity, what it told; or why it isn't there.

    `DEFAULT` must be among them: its vectors are the reference.
    """
    size, lengths = Size.of(model), _lengths(model, texts, max_tokens)
    formats = FORMATS[device]
    settings = round_settings(folder, model, texts, max_tokens, device, unit_texts)
    raced = _race(folder, contenders, settings | {"shapes": size.shapes, "formats": formats}, rounds)
    if DEFAULT.name not in raced.vectors:
        raise RuntimeError(f"nothing to compare with: {DEFAULT.name} did not take part ({raced.failed[DEFAULT.name]})")
    found = {}
    for name, own in raced.vectors.items():
        parity = measure_parity(own, raced.vectors[DEFAULT.name])
        found[name] = {
            "seconds": raced.seconds[name], "told": raced.told[name],
            "min_cosine": parity.min_cosine, "max_relative_l2": parity.max_relative_l2,
        }  # fmt: skip
    return {
        "texts": len(texts),
        "characters": {"p50": _percentile(texts, 50), "p95": _percentile(texts, 95)},
        "tokens": sum(lengths),
        "max_tokens": max_tokens,
        "flop": size.flop(lengths),
        "flop_per_s": dict(zip(formats, np.median(raced.rates, axis=0).tolist(), strict=True)),
        "contenders": found,
        "failed": raced.failed,
    }


@dataclass(slots=True)
class _Raced:
    """What came of a race, by contender's name; those that didn't come to its end have a reason in `failed` and no vectors."""

    rates: list[npt.NDArray[np.float32]] = field(
        default_factory=list
    )  # of products, in FLOP/s: each round's, in each format
    seconds: dict[str, list[float]] = field(default_factory=dict)
    vectors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def may_fail(self, contender: Contender) -> Iterator[None]:
        """A contender that can't go on is out; the others go on."""
        try:
            yield
        except PeerError as error:
            self.failed[contender.name] = str(error)


def _race(folder: Path, contenders: Sequence[Contender], settings: Mapping[str, Any], rounds: int) -> _Raced:
    """All loaded side by side, then round by round in turns, the machine's own products measured in each."""
    raced = _Raced(seconds={contender.name: [] for contender in contenders})
    with ExitStack() as stack:
        products = stack.enter_context(Running(PRODUCTS, folder / "products", settings))
        running: list[Running] = []
        for number, contender in enumerate(contenders):
            with raced.may_fail(contender):
                running.append(stack.enter_context(Running(contender, folder / str(number), settings)))
        for number in range(rounds):
            products.encode()
            raced.rates.append(products.vectors())
            turn = number % max(1, len(running))
            for peer in running[turn:] + running[:turn]:  # so that nobody always follows the same one
                with raced.may_fail(peer.contender):
                    raced.seconds[peer.contender.name].append(peer.encode())
            running = [peer for peer in running if peer.contender.name not in raced.failed]
        for peer in running:
            with raced.may_fail(peer.contender):
                raced.vectors[peer.contender.name] = peer.vectors()
                raced.told[peer.contender.name] = peer.told
    return raced


def measure_parity_of_many(folder: Path, model: str, max_tokens: int) -> dict[str, Any]:
    """Parity of both precisions over 4,096 mixed texts."""
    texts = make_texts(MIXED, PARITY_TEXTS)
    settings = round_settings(folder, model, texts, max_tokens)
    vectors = {}
    for number, contender in enumerate((DEFAULT, EXACT, GATED)):
        with Running(contender, folder / str(number), settings) as running:
            running.encode()
            vectors[contender.name] = running.vectors()
    result: dict[str, Any] = {"texts": len(texts)}
    for contender in (EXACT, GATED):
        parity = measure_parity(vectors[contender.name], vectors[DEFAULT.name])
        result[contender.name] = {"min_cosine": parity.min_cosine, "max_relative_l2": parity.max_relative_l2}
    return result


def _lengths(model: str, texts: Sequence[str], max_tokens: int) -> list[int]:
    offsets = Tokens(model, max_tokens).encode(texts)[1]
    lengths: list[int] = np.diff(offsets).tolist()
    return lengths


def _percentile(texts: Sequence[str], percent: int) -> int:
    return round(float(np.percentile([len(text) for text in texts], percent)))
