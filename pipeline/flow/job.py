"""Resolve: the names in a config → what they stand for. After this nothing about the job is open but the input's files."""

import contextlib
import logging
import uuid
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

import pipeline
from pipeline.commit.snapshot import newest_version, read_entry, read_stored_spec
from pipeline.config.schema import Config
from pipeline.encode.settings import EncoderSettings
from pipeline.errors import ConfigError, InputError
from pipeline.flow.context import JobContext, ModelContext
from pipeline.model.lock import ModelLock, StagedModel
from pipeline.model.modules import find_route
from pipeline.model.resolve import portable_name, resolve_model
from pipeline.quality.sample import stratify
from pipeline.sink.schema import Layout, find_alike
from pipeline.source.discover import discover
from pipeline.source.links import check_apart, check_kept, leading_out
from pipeline.source.read import read_segment
from pipeline.source.records import Extraction, InputFile, Segment, SourceUnit, UnitPolicy
from pipeline.source.schema import Fits, inspect
from pipeline.spec import Spec, build_spec, effective_max_tokens, prompt_text, unit_policy
from pipeline.storage.environment import worker_environment
from pipeline.storage.inputs import find
from pipeline.storage.open import open_store
from pipeline.storage.store import Store
from pipeline.text.policy import TextPolicy

SAMPLE_SEGMENTS, SAMPLE_ROWS, SAMPLE_CHARS = 3, 64, 1600
"""The parity gate's texts: the beginnings of the first rows of a few segments."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A config with every name resolved."""

    config: Config
    limit: int | None
    store: Store
    model: StagedModel
    extraction: Extraction
    policy: UnitPolicy
    spec: Spec
    run: str  # 32 hexadecimal characters, new for every run

    def discover(self) -> list[InputFile]:
        """Today's input files."""
        return _find_input(self.config, self.store)

    def look_again(self, files: Sequence[InputFile], changed: Set[str]) -> list[InputFile]:
        """The same files, those that have `changed` as they are now, without any that is gone."""
        return [file for file in (_now(file) if file.uri in changed else file for file in files) if file is not None]


def resolve(config: Config, limit: int | None = None) -> Job:
    """Look up the model, the output and the input's columns. Raises ConfigError, ModelError, InputError, StorageError."""
    store = open_store(config.output.path)
    model = resolve_model(config.model.name, config.model.revision, config.execution.model_cache)
    find_route(Path(model.directory), config.model.task)
    files = _find_input(config, store)
    _warn_of_links(files, config.input.paths)
    _warn_of_twins(files)
    extraction = inspect(files, config.input, config.rows, config.output.partition_by, _published_columns(store))
    alike = find_alike([name for name, _ in extraction.keep])
    if alike is not None:
        raise ConfigError(
            f"input.keep or output.partition_by names {alike[0]!r}, but the result has another column {alike[1]!r}, which "
            "warehouses take for the same; rename one at the source, or leave one out"
        )
    _check_partitions(extraction, config.output.partition_by)
    if (config.model.truncate_dim or 0) > model.lock.dimensions:
        raise ConfigError(
            f"model.truncate_dim is {config.model.truncate_dim}, but the vectors of {config.model.name} have "
            f"{model.lock.dimensions} dimensions; leave it out, or name fewer"
        )
    spec = build_spec(config, model.lock, extraction, limit)
    return Job(config, limit, store, model, extraction, unit_policy(config), spec, uuid.uuid4().hex)


def _find_input(config: Config, store: Store) -> list[InputFile]:
    files = discover(config.input)
    check_apart(files, store.root)
    execution = config.execution
    check_kept(files, {"execution.events": execution.events, "execution.model_cache": execution.model_cache})
    return files


def _now(file: InputFile) -> InputFile | None:
    try:
        found = find(file.uri)
    except InputError:
        return file  # which may not be looked at: that is for its reader to tell
    return replace(file, version=found.version, size=found.size) if found else None


def _warn_of_links(files: Sequence[InputFile], paths: Sequence[str]) -> None:
    """Links are followed; but that more is read than lies in the named folders is seldom known to whoever looks at the config."""
    links = leading_out(files, paths)
    if links:
        log.warning(
            "links lead out of the folders in input.paths, as %s to %s (%d in all); what they lead to is embedded too",
            *links[0],
            len(links),
        )


def _warn_of_twins(files: Sequence[InputFile]) -> None:
    """A link to a folder beside the folder itself has every row embedded twice, which is seldom meant."""
    first: dict[str, str] = {}
    twins = [
        (first[file.version], file.uri)
        for file in files
        if "://" not in file.uri and first.setdefault(file.version, file.uri) != file.uri
    ]
    if twins:
        log.warning(
            "%s and %s are one file (%d such pairs), and its rows are embedded once under each name; if that isn't meant, "
            "narrow input.paths",
            *twins[0],
            len(twins),
        )


def _check_partitions(extraction: Extraction, partition_by: Sequence[str]) -> None:
    """Raises ConfigError for a column whose values can't name folders that every reader takes for the same value."""
    kinds = dict(extraction.keep)
    for name in partition_by:
        kind = kinds[name]
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            raise ConfigError(
                f"output.partition_by: {name!r} is {kind}; partition by a column of text, whole numbers, booleans, dates or "
                "timestamps"
            )


def _published_columns(store: Store) -> Fits:
    """Whether columns have the names and types of the newest snapshot's; anything will do where there is none."""
    entry = read_entry(store, newest_version(store))
    if entry is None:
        return lambda _: True
    layout = read_stored_spec(store, entry.spec).layout

    def fits(extraction: Extraction) -> bool:
        kept = [[name, str(kind)] for name, kind in extraction.keep]
        named = {"column": extraction.id, "type": extraction.id_type}
        return bool(layout["id"] == named and layout["keep"] == kept)

    return fits


def make_context(job: Job, sample: Sequence[Segment], base: int) -> JobContext:
    """What the workers are told. `sample`: segments whose first rows the parity gate is measured on. `base`: the newest
    version when the work was planned."""
    config, lock = job.config, job.model.lock
    return JobContext(
        output=job.store.root,
        run=job.run,
        spec_id=job.spec.spec_id,
        base=base,
        extraction=job.extraction,
        policy=job.policy,
        limit=job.limit,
        dimensions=job.spec.dimensions,
        text=TextPolicy(
            prompt=prompt_text(config, lock),
            max_tokens=effective_max_tokens(config, lock),
            empty=config.rows.empty,
        ),
        model=ModelContext(
            name=portable_name(config.model.name),
            revision=config.model.revision,
            cache=config.execution.model_cache,
            lock=lock,
            precision=config.model.precision,
            device=config.execution.device,
            settings=encoder_settings(config, lock),
            gate_texts=tuple(stratify(sample_texts(job, sample))),
        ),
        layout=make_layout(job),
        unit_timeout_s=config.execution.unit_timeout_s,
        environment=worker_environment(),
    )


def encoder_settings(config: Config, lock: ModelLock) -> EncoderSettings:
    """What of a config says how replicas encode."""
    return EncoderSettings(
        max_tokens=effective_max_tokens(config, lock),
        prompt=prompt_text(config, lock),
        truncate_dim=config.model.truncate_dim,
        task=config.model.task,
        token_budget=config.execution.token_budget,
    )


def make_layout(job: Job) -> Layout:
    """Columns and footers of the result."""
    lock = job.model.lock
    footer = {
        "embedpipe.spec": job.spec.spec_id,
        "embedpipe.recipe": job.spec.recipe_id,
        "embedpipe.model": lock.name,
        "embedpipe.revision": lock.revision or "",
        "embedpipe.weights": lock.weights_hash,
        "embedpipe.dimensions": str(job.spec.dimensions),
        "embedpipe.precision": job.config.model.precision,
        "embedpipe.normalized": str(lock.normalized).lower(),
        "embedpipe.version": pipeline.__version__,
    }
    return Layout(
        id_type=job.extraction.id_type,
        keep=job.extraction.keep,
        partition_by=job.config.output.partition_by,
        dimensions=job.spec.dimensions,
        vector_type=job.config.output.vector_type,
        metadata=tuple(footer.items()),
    )


def first_units(job: Job, segments: Sequence[Segment]) -> Iterator[tuple[Segment, SourceUnit]]:
    """The first rows of a few segments, spread over the input. One that can't be read is left to its reader to tell of."""
    step = max(1, len(segments) // SAMPLE_SEGMENTS)
    policy = UnitPolicy(SAMPLE_ROWS, job.policy.text_bytes, job.policy.vector_bytes)
    for segment in segments[::step][:SAMPLE_SEGMENTS]:
        with contextlib.suppress(InputError):
            yield segment, next(read_segment(segment, job.extraction, policy, SAMPLE_ROWS))


def sample_texts(job: Job, segments: Sequence[Segment]) -> list[str]:
    """Beginnings of texts for the parity gate."""
    texts = (text for _, unit in first_units(job, segments) for text in unit.rows["text"].to_pylist() if text)
    return [text[:SAMPLE_CHARS] for text in texts]
