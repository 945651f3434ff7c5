"""Files that hold two texts a row, and what is known of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.schema import Section

Tabular = Literal["parquet", "arrow", "jsonl", "csv", "tsv"]


class TextPairs(Section):
    """Two texts a row."""

    paths: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Files, directories or globs, as in a job's input.paths."
    )
    format: Tabular | Literal["auto"] = Field("auto", description="`auto` goes by file name.")
    first: str = Field("sentence1", description="Column of the first text.")
    second: str = Field("sentence2", description="Column of the second text.")
    quotes: bool = Field(
        True, description="False: quotation marks in .csv and .tsv files are text, as in most benchmarks."
    )
    only: dict[str, str] = Field(
        {},
        description="Rows with these values in these columns, as in `{split: train}`; values as Python writes them, True for "
        "JSON's true.",
    )


class Pairs(TextPairs):
    """And whether they belong together."""

    label: str = Field("label", description="Column of the label: 0 or 1, or a score (see `positive_from`).")
    positive_from: float | None = Field(None, description="Scores from here on are 1.")
    negative_to: float | None = Field(None, description="Scores up to here are 0; those in between are left out.")

    @model_validator(mode="after")
    def _both_bounds(self) -> "Pairs":
        if (self.positive_from is None) != (self.negative_to is None):
            raise ValueError("set `positive_from` and `negative_to`, or neither")
        if self.positive_from is not None and self.negative_to is not None and self.negative_to >= self.positive_from:
            raise ValueError(f"`negative_to` ({self.negative_to}) must be below `positive_from` ({self.positive_from})")
        return self


class ScoredPairs(TextPairs):
    """And how similar people find them."""

    score: str = Field("score", description="Column of the score, on any scale; more is more similar.")
