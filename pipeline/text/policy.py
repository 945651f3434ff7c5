"""What is done to a text before it is encoded: a prompt in front, a cut at the model's limit, nothing else."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TextPolicy:
    """Part of the spec."""

    prompt: str  # put before every text, as sentence-transformers does; "" for none
    max_tokens: int  # where a text is cut, prompt and special tokens counted
    empty: Literal["quarantine", "embed", "refuse"]  # empty or whitespace-only text
