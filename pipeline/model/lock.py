"""`ModelLock`: what a model is, by content. Two models with the same lock give the same vectors."""

from dataclasses import dataclass

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModuleLock:
    """One module of the sentence-transformers chain."""

    path: str  # folder below the model directory; "" for the first
    type: str  # canonical short name from the allow-list: Transformer, Pooling, Dense, Normalize, …


@dataclass(frozen=True, slots=True)
class ModelLock:
    """Everything a vector depends on that the model brings along."""

    name: str  # as configured, for people; not hashed
    revision: str | None  # commit of a hub model, for people; not hashed
    files: tuple[tuple[str, str], ...]  # (path below the model directory, sha256), sorted; every file that is loaded
    modules: tuple[ModuleLock, ...]
    dimensions: int  # of the full vector, before truncate_dim
    max_tokens: int  # the real limit: min(what the model says, what its position table can address)
    declared_max_tokens: int | None  # what the model says, when that is more than it can address
    normalized: bool  # whether the chain ends in unit vectors
    prompts: tuple[tuple[str, str], ...]  # the model's own prompts by name, sorted
    default_prompt_name: str | None
    include_prompt: bool  # False: pooling leaves the prompt's tokens out
    tasks: tuple[str, ...]  # routes of a Router, sorted; () without one
    weights_hash: str  # sha256 over the weight files' hashes
    tokenizer_hash: str  # sha256 over the tokenizer files' hashes

    def identity(self) -> dict[str, object]:
        """What enters the spec: file contents and module chain, not the name it was found under."""
        return {
            "files": [list(pair) for pair in self.files],
            "modules": [[m.path, m.type] for m in self.modules],
            "dimensions": self.dimensions,
            "max_tokens": self.max_tokens,
        }

    def prompt_named(self, name: str) -> str:
        """The text of one of the model's own prompts. Raises ConfigError for a name it hasn't.

        `query` and `document` are there in every model, as in sentence-transformers: empty where it says nothing.
        """
        prompts = {"query": "", "document": "", **dict(self.prompts)}
        if name not in prompts:
            raise ConfigError(
                f"model.prompt_name is {name!r}, but the model's prompts are {', '.join(sorted(prompts))}"
            )
        return prompts[name]


@dataclass(frozen=True, slots=True)
class StagedModel:
    """A model lying on this node, checked against its lock."""

    directory: str  # local path to load from
    lock: ModelLock
