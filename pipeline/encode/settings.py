"""How a replica is to encode: what of a config the encoder, the parity gate and its reference have to agree on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """Small and picklable; readable where torch isn't installed."""

    max_tokens: int  # of one text, special tokens included
    prompt: str = ""  # what stands before every text; pooling may leave its tokens out
    truncate_dim: int | None = None  # of the vectors, at most
    task: str | None = None  # which way a text takes through a model that has several
    token_budget: int | None = None  # tokens of one forward pass; None: what suits the device
