"""The texts that speed is measured on: real words, in three mixes of lengths."""

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.sample import find_docstrings, installed
from pipeline.text.tokens import Tokens

SEED = "embedpipe bench"
DOCSTRINGS = 6000
DRAWN = 100_000
"""Words that are looked at together."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Lengths in characters, drawn from a log-normal distribution."""

    name: str
    median: float
    p95: float
    texts: int  # encoded in one round

    def lengths(self, count: int) -> Iterator[int]:
        """`count` lengths, the same every time."""
        rng = random.Random(f"{SEED} {self.name}")
        spread = math.log(self.p95 / self.median) / 1.6449  # 95% of a normal distribution lie below that many sigmas
        for _ in range(count):
            yield max(3, round(self.median * math.exp(rng.gauss(0.0, spread))))


TITLES = Mix("titles", 45, 90, 4096)
MIXED = Mix("mixed", 180, 1850, 1024)
DOCUMENTS = Mix("documents", 4000, 12_000, 192)
MIXES = (TITLES, MIXED, DOCUMENTS)


def make_texts(mix: Mix, count: int) -> list[str]:
    """Texts of a mix: pieces of docstrings, one behind the other, cut between words; no two alike."""
    words = _words()
    texts: dict[str, None] = {}
    for length in mix.lengths(count):
        text = _take(words, length)
        while text in texts:
            text += " " + next(words)
        texts[text] = None
    return list(texts)


def texts_of(tokens: int, count: int, model: str) -> list[str]:
    """Texts that are all so many tokens long for a model, special ones included."""
    tokenizer = Tokens(model, tokens)
    words, found = _words(), dict[str, None]()
    sizes: dict[str, int] = {}  # of words, in tokens
    special = int(tokenizer.encode([""])[2][0])
    while len(found) < count:
        some = list(itertools.islice(words, DRAWN))
        new = list(set(some) - sizes.keys())
        sizes.update(zip(new, (tokenizer.encode(new)[2] - special).tolist(), strict=True))
        text: list[str] = []
        room = tokens - special
        for word in some:
            if sizes[word] > room:
                continue
            text.append(word)
            room -= sizes[word]
            if room == 0:
                found[" ".join(text)] = None
                text, room = [], tokens - special
    return list(found)[:count]


def with_duplicates(texts: Sequence[str], share: float) -> list[str]:
    """As many texts, of which a share repeat earlier ones, in a random order."""
    rng = random.Random(f"{SEED} duplicates")
    distinct = list(texts[: round(len(texts) * (1 - share))])
    repeated = distinct + rng.choices(distinct, k=len(texts) - len(distinct))
    rng.shuffle(repeated)
    return repeated


def without_duplicates(texts: Sequence[str]) -> list[str]:
    """The same texts, each that repeats another one with spaces behind it: none is alike, and the tokens are the same."""
    before: Counter[str] = Counter()
    found = []
    for text in texts:
        found.append(text + " " * before[text])
        before[text] += 1
    return found


def _words() -> Iterator[str]:
    """Words of docstrings without end; from the second time on a number stands before each docstring."""
    turn = 0
    while True:
        for text in _docstrings():
            yield from ([f"#{turn}"] if turn else [])
            yield from text.split()
        turn += 1


@functools.cache
def _docstrings() -> list[str]:
    return [entry.text for entry in find_docstrings(installed(), DOCSTRINGS)]


def _take(words: Iterator[str], length: int) -> str:
    taken, size = [], -1
    while size < length:
        taken.append(next(words))
        size += len(taken[-1]) + 1
    return " ".join(taken)
