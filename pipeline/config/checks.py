"""What a config must fulfil beyond its types, as far as it can be told without looking into any file: of the disk it only asks
where links lead."""

import itertools
import os
import re
import string
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from pipeline.config.schema import Config, Execution, Input, Model, Output
from pipeline.storage.uri import local_path, parse

PLACES = (
    "input.paths",
    "input.root",
    "model.name",
    "output.path",
    "execution.address",
    "execution.model_cache",
    "execution.events",
)
"""Keys that hold a path or a URL."""

_USER_INFO = re.compile(
    r"(?:://|\b(?:s3[an]?|gcs?|gs|az|adl|abfss?|wasbs?|oss|https?|s?ftps?|ssh|(?:web)?hdfs):/*)(?:[^/\s:@]*:[^\s@]*|[^/\s@]*)@",
    re.IGNORECASE,
)
"""A secret key may hold slashes, and those behind the scheme may be forgotten, or typed once too often."""
_CONTAINER = re.compile(r"(?:abfs|wasb)s?://[\w-]+@[\w.-]+(?:/|$)", re.IGNORECASE)
"""Azure's own spelling of <container>@<account>, which is no credential."""
_SIGNED = re.compile(
    r"[?&;](?:x-(?:amz|goog)-|sig=|sv=|key=|[\w.-]*(?:signature|token|passw(?:or)?d|secret|credential|(?:api|account|access)[-_]?key"
    r"(?:[-_]?id)?)=)",
    re.IGNORECASE,
)
_SECRET = (
    "holds credentials, which logs and records would show; take them out of the URL and set them in the environment "
    "(AWS_ACCESS_KEY_ID, …), a profile or a role"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_HUB_ID = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def find_credentials(raw: Mapping[str, Any]) -> Iterator[str]:
    """Problems with URLs that carry a secret. Works on unchecked values, and never shows one."""
    for key in PLACES:
        section, _, name = key.partition(".")
        part = raw.get(section)
        value = part.get(name) if isinstance(part, Mapping) else None
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and _holds_secret(text):
                yield f"{key}: {_SECRET}"
                break


def find_unusable(raw: Any, key: str = "") -> Iterator[str]:
    """For a file that is no job: URLs with a secret, and text that nothing takes, wherever they stand in unchecked values."""
    for place, text in _strings(raw, key):
        if _holds_secret(text):
            yield f"{place}: {_SECRET}"
        else:
            yield from _unusable(text, place)


def _holds_secret(url: str) -> bool:
    user_info = _USER_INFO.search(_CONTAINER.sub("", url))
    return user_info is not None or _SIGNED.search(url) is not None


def find_contradictions(config: Config) -> Iterator[str]:
    """Problems between keys, and with values that their type allows but nothing can use."""
    unusable = list(_unusable(config.model_dump()))
    yield from unusable
    yield from _of_input(config.input)
    yield from _of_model(config.model)
    yield from _of_output(config.output, config.input)
    if not unusable:
        yield from _of_places(config.input, config.output)
        yield from _beside_model(config.model, config.output)
        yield from _of_own_files(config)
    yield from _of_execution(config.execution)


def _of_input(source: Input) -> Iterator[str]:
    yield from _repeated("input.paths", source.paths)
    yield from _repeated("input.keep", source.keep)
    if source.template is not None:
        try:
            parts = list(string.Formatter().parse(source.template))
        except ValueError as error:
            yield f"input.template: {error}; a brace that is meant as such is written twice"
            return
        fields = [name for _, name, _, _ in parts if name is not None]
        if not fields or "" in fields:
            yield "input.template: name a column in each pair of braces, as in `{title}`"
        for _, name, width, conversion in parts:
            if width or conversion:
                yield (
                    f"input.template: {name!r} is followed by `!` or `:`, but values are taken as they are; "
                    f"write {{{name}}}"
                )


def _of_model(model: Model) -> Iterator[str]:
    if not _HUB_ID.fullmatch(model.name):
        if model.revision is not None:
            yield "model.revision: goes with a hub id only; what a directory, URL or package holds is hashed instead"
    elif model.revision is None:
        yield (
            f"model.revision: is missing; {model.name!r} is a hub id, and those need the 40-character commit "
            f"of what is wanted. If it is a directory, write ./{model.name}"
        )
    elif not _COMMIT.fullmatch(model.revision):
        yield (
            f"model.revision: expected a commit of 40 characters (0-9, a-f), given {model.revision!r}; branches "
            "and tags can move"
        )


def _of_output(output: Output, source: Input) -> Iterator[str]:
    yield from _repeated("output.partition_by", output.partition_by)
    for column in output.partition_by:
        if column in (source.id, source.text):
            what = "id" if column == source.id else "text"
            yield f"output.partition_by: {column!r} is the {what} column; partition by a column with few values"
        elif column.startswith(("_", ".")):
            yield (
                f"output.partition_by: {column!r} can't be the name of a folder: many readers pass over those that begin with "
                "`_` or `.`, and would see no row; rename the column at the source"
            )
        elif quote(column, safe="") != column:
            yield (
                f"output.partition_by: {column!r} can't be the name of a folder: some readers would see "
                f"{quote(column, safe='')!r}; rename the column at the source, to letters, digits and `_`"
            )


def _of_places(source: Input, output: Output) -> Iterator[str]:
    schemes = {path: parse(path).scheme for path in source.paths}
    local = next((path for path, scheme in schemes.items() if scheme == "file"), None)
    remote = next((path for path, scheme in schemes.items() if scheme != "file"), None)
    if local is not None and remote is not None:
        yield (
            f"input.paths: {local!r} is a file of this machine, {remote!r} is not; a job reads either. Copy one to where the "
            "other is"
        )
    targets = _spellings(output.path)
    below = ["data", *(f"{column}=value" for column in output.partition_by), "file.parquet"]
    for path in source.paths:
        pairs = list(itertools.product(_spellings(path), targets))
        if any(_reaches(pattern, [*target, *below]) for pattern, target in pairs):
            yield (
                f"output.path: {output.path!r} lies in what input.paths covers ({path!r}), so the next run would take "
                "the result for input; put them side by side"
            )
        elif any(pattern[: len(target)] == target for pattern, target in pairs):
            yield f"input.paths: {path!r} lies in output.path ({output.path!r}); put them side by side"


def _of_own_files(config: Config) -> Iterator[str]:
    """What a run writes beside its output must be neither its input, which would change under its reader for ever, nor part of
    the output, where a plain glob would meet it and _SUCCESS would never stand."""
    execution, output = config.execution, config.output.path
    for key, place, below in (
        ("events", execution.events, []),
        ("model_cache", execution.model_cache, ["models", "folder", "file.json"]),
    ):
        if place is None or _is_remote(place):
            continue
        spellings = _on_disk(str(local_path(place).absolute()))
        for path in config.input.paths:
            if any(_reaches(pattern, [*own, *below]) for pattern in _spellings(path) for own in spellings):
                yield (
                    f"execution.{key}: {place!r} lies in what input.paths covers ({path!r}), so a run would take what it writes "
                    "there for input; put it elsewhere"
                )
        if any(own[: len(target)] == target for target in _spellings(output) for own in spellings):
            yield f"execution.{key}: {place!r} lies in output.path ({output!r}), which is for the result; put it elsewhere"


def _beside_model(model: Model, output: Output) -> Iterator[str]:
    """What is written into a model's directory makes it another model, and no run would end."""
    if model.name.startswith("package:") or _HUB_ID.fullmatch(model.name):
        return
    pairs = itertools.product(_spellings(model.name), _spellings(output.path))
    if any(place[: len(directory)] == directory for directory, place in pairs):
        yield (
            f"output.path: {output.path!r} lies in the directory of the model ({model.name!r}), and every file there is part of "
            "what a model is; put them side by side"
        )


def _of_execution(execution: Execution) -> Iterator[str]:
    if execution.engine == "serial" and execution.address is not None:
        yield "execution.address: there is no cluster with execution.engine serial; leave one of them out"
    for key, place in (("model_cache", execution.model_cache), ("events", execution.events)):
        if place is not None and _is_remote(place):
            yield f"execution.{key}: {place!r} is no local path; what is written there lies on the machine's own disk"


def _is_remote(place: str) -> bool:
    return "://" in place or "::" in place


def _unusable(value: Any, key: str = "") -> Iterator[str]:
    """Text that no tokenizer or record takes, or no file system. YAML can spell it: `"\\ud800"`, `"\\0"`."""
    for place, text in _strings(value, key):
        if _SURROGATE.search(text):
            yield f"{place}: {text!r} holds half a surrogate pair, which is no character"
        elif "\0" in text and place.partition("[")[0] in PLACES:
            yield f"{place}: {text!r} holds a zero byte, which no path may"


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """All texts in a value, each with its place."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(inner, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _strings(inner, f"{key}[{number}]")


def _repeated(key: str, values: tuple[str, ...]) -> Iterator[str]:
    for value in sorted({value for value in values if values.count(value) > 1}):
        yield f"{key}: {value!r} is given twice"


def _spellings(place: str) -> list[list[str]]:
    """A place as scheme and names, as it is written and, on local disk, where its links lead."""
    parsed = parse(place)
    return _on_disk(parsed.path) if parsed.scheme == "file" else [_names(parsed.scheme, parsed.path)]


def _on_disk(path: str) -> list[list[str]]:
    return [_names("file", spelling) for spelling in dict.fromkeys((os.path.normpath(path), os.path.realpath(path)))]


def _names(scheme: str, path: str) -> list[str]:
    return [f"{scheme}:", *(part for part in path.split("/") if part)]


def _reaches(pattern: list[str], file: list[str]) -> bool:
    """Whether a pattern covers a file: names it or a folder above it, or matches it. A name that exists as it is written is
    never taken for a glob, so a pattern is both here."""
    return file[: len(pattern)] == pattern or _matches(pattern, file)


def _matches(pattern: list[str], file: list[str]) -> bool:
    if not pattern or not file:
        return not pattern and not file
    if pattern[0] == "**":
        return len(pattern) == 1 or any(_matches(pattern[1:], file[start:]) for start in range(len(file)))
    return fnmatchcase(file[0], pattern[0]) and _matches(pattern[1:], file[1:])
