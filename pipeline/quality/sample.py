"""The texts that parity is measured on. Apart from the gate, so that a driver can choose them without torch."""

from collections.abc import Sequence

SAMPLE = 48
"""Texts compared: enough for all lengths, few enough to cost a second or two."""

CONSTRUCTED = (
    "",
    " \t\n",
    "word",
    "a very long text " * 2000,
    "[CLS] a [SEP] b </s> c <mask> d <|endoftext|>",
    "Ärger ÅNGSTRÖM e\u0301 ﬁ ½ 東京タワー 👍🏽 \u00a0\u200b\u0000\ufffd",
)
"""Compared in any case: nothing at all, one token, more than any model takes, special tokens that are plain text here,
and characters that tokenizers fold, split or drop."""


def stratify(texts: Sequence[str], count: int = SAMPLE) -> list[str]:
    """`count` distinct texts spread evenly over the lengths there are, the shortest and the longest among them."""
    by_length = sorted(set(texts), key=lambda text: (len(text), text))
    taken = min(count, len(by_length))
    return [by_length[i * (len(by_length) - 1) // max(1, taken - 1)] for i in range(taken)]
