"""A YAML file and the settings of the command line → a frozen `Config`. Reads that one file and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.config.checks import find_contradictions, find_credentials, find_unusable
from pipeline.config.evaluation import Evaluation
from pipeline.config.problems import problem_lines, shown
from pipeline.config.schema import Config
from pipeline.config.training import Training
from pipeline.config.yaml_text import MAX_BYTES, parse_yaml, write_yaml
from pipeline.errors import ConfigError

Kind = TypeVar("Kind", Training, Evaluation)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The job that the file describes, with `a.b=value` overrides put over it, values written as in YAML.

    Raises one ConfigError with a line for each problem: the key, what is wrong, what was given.
    """
    return check_config(_sections(path, overrides, "input, model, output"), str(path))


def load_training(path: str | Path, overrides: Sequence[str] = ()) -> Training:
    """The same for a file that describes a training run."""
    raw = _sections(path, overrides, "model, pairs, output")
    return _check(
        {key: {} if value is None and key != "evaluation" else value for key, value in raw.items()}, path, Training
    )


def load_evaluation(path: str | Path, overrides: Sequence[str] = ()) -> Evaluation:
    """The same for a file that describes an evaluation."""
    raw = _sections(path, overrides, "model, sts, pairs, retrieval")
    return _check(
        {key: {} if value is None and key != "folder" else value for key, value in raw.items()}, path, Evaluation
    )


def _check(raw: dict[str, Any], path: str | Path, kind: type[Kind]) -> Kind:
    _refuse(str(path), list(find_unusable(raw)))
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise _refusal(str(path), problem_lines(error, kind)) from None


def _sections(path: str | Path, overrides: Sequence[str], expected: str) -> dict[str, Any]:
    raw = parse_yaml(_read(Path(path)), str(path))
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected sections ({expected}, …), given {shown(raw)}")
    for override in overrides:
        _apply(raw, override)
    return raw


def check_config(raw: dict[str, Any], where: str) -> Config:
    """The same for values already read. A section with nothing in it (all commented out) means its defaults."""
    raw = {key: {} if value is None else value for key, value in raw.items()}
    _refuse(where, list(find_credentials(raw)))
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise _refusal(where, problem_lines(error)) from None
    _refuse(where, list(find_contradictions(config)))
    return config


def dump_config(config: Config) -> str:
    """The config as canonical YAML, defaults written out; loading it gives an equal one."""
    return write_yaml(config.model_dump(mode="json"))


def config_schema() -> dict[str, Any]:
    """JSON Schema of a config file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "embedpipe job"}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: the config can't be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; is this the config?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start:,} is not UTF-8; is this the config?") from error


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {shown(override)}: expected section.key=value")
    place = raw
    for depth, part in enumerate(parts[:-1], 1):
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: {'.'.join(parts[:depth])} is not a section")
    place[parts[-1]] = parse_yaml(text, f"--set {key}")


def _refuse(where: str, problems: Sequence[str]) -> None:
    if problems:
        raise _refusal(where, problems)


def _refusal(where: str, problems: Sequence[str]) -> ConfigError:
    if len(problems) == 1:
        return ConfigError(f"{where}: {problems[0]}")
    return ConfigError("\n  ".join([f"{where}: {len(problems)} problems", *problems]))
