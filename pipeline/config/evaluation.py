"""What an evaluation is: which model, on which sets with which labels, and how good it must be."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.config.pairs import Pairs, ScoredPairs
from pipeline.config.schema import Execution, Model, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Paths = Annotated[tuple[str, ...], Field(min_length=1)]
Least = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
"""Of a score: 0.867, not 86.7."""

MEASURES = {
    "sts": ("spearman", "pearson"),
    "pairs": ("average_precision", "accuracy"),
    "retrieval": ("ndcg_at_10", "recall_at_10", "recall_at_100"),
}
"""What is measured on each kind of set."""


class Retrieval(Section):
    """Queries, the documents they are to find, and which are relevant, as BEIR lays them out."""

    corpus: Paths = Field(description="Documents, .jsonl or .tsv: `_id`, `title`, `text`.")
    queries: Paths = Field(description="Queries, .jsonl or .tsv: `_id`, `text`.")
    qrels: Paths = Field(
        description="Judgements, .tsv or .jsonl: `query-id`, `corpus-id`, `score`, a whole number up to 1,000; above 0 is "
        "relevant."
    )
    title: str | None = Field("title", description="Column put before a document's text; null for none.")
    query_prompt: str | None = Field(None, description="Text put before every query. Default: the model's own prompt.")
    document_prompt: str | None = Field(None, description="The same for documents.")


class Evaluation(Section):
    """One evaluation. Sets have names of your choice; a score's name is `set.measure`, as in `stsb.spearman`."""

    model: Model
    sts: dict[Name, ScoredPairs] = Field({}, description="Spearman's and Pearson's correlation with people's scores.")
    pairs: dict[Name, Pairs] = Field({}, description="Average precision, and accuracy at the best threshold.")
    retrieval: dict[Name, Retrieval] = Field({}, description="nDCG@10, recall@10 and recall@100.")
    minimum: dict[str, Least] = Field(
        {}, description="By score's name, from 0 to 1; the command ends with exit code 3 below one."
    )
    folder: str | None = Field(
        None,
        description="Local folder for texts and vectors while it is measured. With a cluster: one that all nodes see at the same "
        "place.",
    )
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _names(self) -> "Evaluation":
        kinds: dict[str, Mapping[str, Section]] = {"sts": self.sts, "pairs": self.pairs, "retrieval": self.retrieval}
        names = [name for sets in kinds.values() for name in sets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sets are named {twice[0]!r}")
        if not names:
            raise ValueError("there is nothing to measure; name a set under `sts`, `pairs` or `retrieval`")
        scores = [f"{name}.{measure}" for kind, sets in kinds.items() for name in sets for measure in MEASURES[kind]]
        unknown = sorted(self.minimum.keys() - set(scores))
        if unknown:
            raise ValueError(f"`minimum` names {unknown[0]!r}; the scores will be {', '.join(scores)}")
        return self
