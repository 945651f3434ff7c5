"""What a training run is: which model, from which pairs, by which loss and schedule.

The defaults are the recipe of the model card that this follows: RoBERTa with max pooling, a Dense layer to 153 dimensions with
ReLU, contrastive loss, ten epochs.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.pairs import Pairs
from pipeline.config.schema import Section


def _named(path: str) -> str:
    if not path:
        raise ValueError("an empty name is no directory's; name one, or leave the key out")
    return path


Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[float, Field(gt=0, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=1)]
"""AdamW moves every weight by about the rate at each step. Float32 holds no numbers without bound, and what is beyond it ends
somewhere below in a library."""


class Architecture(Section):
    """The model to begin with. Without `base` its weights are random and its tokenizer is trained on the pairs' own text."""

    base: Annotated[str, AfterValidator(_named)] | None = Field(
        None,
        description="Directory of a sentence-transformers model to train further, or of a RoBERTa checkpoint to build on.",
    )
    hidden_size: Positive = 768
    layers: Positive = 12
    heads: Positive = 12
    intermediate_size: Positive = 3072
    max_tokens: Annotated[int, Field(ge=8)] = Field(
        1280, description="Tokens of a text, special ones included; the position table gets two more."
    )
    vocabulary: Annotated[int, Field(ge=300)] = Field(
        30_000, description="Tokens of a tokenizer trained here, at most."
    )
    pooling: Literal["max", "mean", "cls"] = "max"
    dimensions: Positive | None = Field(153, description="Outputs of a Dense layer; null for none.")
    activation: Literal["relu", "tanh", "identity"] = Field("relu", description="Of the Dense layer.")
    dropout: Share = Field(0.5, description="Of the last layer, in training; 0 for none.")

    @model_validator(mode="after")
    def _heads_divide(self) -> "Architecture":
        if self.hidden_size % self.heads:
            raise ValueError(f"`hidden_size` ({self.hidden_size}) must be a multiple of `heads` ({self.heads})")
        return self

    @model_validator(mode="after")
    def _activation_of_something(self) -> "Architecture":
        if self.dimensions is None and "activation" in self.model_fields_set:
            raise ValueError(
                "`activation` is the Dense layer's, and `dimensions: null` leaves that out; set one of them"
            )
        return self


class Loss(Section):
    """ContrastiveLoss: pairs that belong together are drawn together, others pushed apart until they are `margin` apart."""

    distance: Literal["euclidean", "cosine", "manhattan"] = "euclidean"
    margin: Width = 0.2


class Schedule(Section):
    """How long and how fast. AdamW; the rate rises to `learning_rate` over `warmup_steps`, then falls to 0 at the last step."""

    epochs: Positive = 10
    steps_per_epoch: Positive | None = Field(None, description="Batches of an epoch. Default: all pairs once.")
    batch_size: Positive = 32
    learning_rate: Rate = 1e-4
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 10_000
    max_grad_norm: Width = 1.0
    evaluation_steps: Annotated[int, Field(ge=0)] = Field(0, description="Evaluate so often; 0: after each epoch.")
    checkpoint_steps: Positive = Field(128, description="Steps that a killed run may have to do again.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42


class Training(Section):
    """One training run."""

    model: Architecture = Architecture()
    pairs: Pairs
    evaluation: Pairs | None = Field(None, description="Pairs that are not trained on.")
    loss: Loss = Loss()
    schedule: Schedule = Schedule()
    output: str = Field(description="Local directory for the model, its checkpoints and its curve.")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _something_to_evaluate_on(self) -> "Training":
        if self.evaluation is None and self.schedule.evaluation_steps:
            raise ValueError(
                f"`schedule.evaluation_steps` is {self.schedule.evaluation_steps}, but without `evaluation` there are no pairs "
                "to evaluate on; give them, or leave it out"
            )
        return self
