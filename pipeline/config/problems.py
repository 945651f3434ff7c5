"""What is wrong with a config, in words: one line per problem with the key, what is wanted and what was given."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.config.schema import Config

SHOWN_CHARACTERS = 60

_URL_END = re.compile(r"://.*[@?].*")


def problem_lines(error: ValidationError, model: type[BaseModel] = Config) -> list[str]:
    """One line per key that is wrong. model: what was to be made."""
    lines: dict[str, str] = {}
    choices: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        key = dotted(_known_part(detail["loc"]))
        if detail["type"] == "literal_error":  # a union of literals says so once for each of them
            choices.setdefault(key, []).append(detail["ctx"]["expected"])
            lines[key] = f"{key}: expected {' or '.join(choices[key])}, given {shown(detail['input'])}"
        elif detail["type"] == "extra_forbidden":
            lines[key] = f"{key}: unknown key{nearest_key(key, model)}"
        else:
            lines.setdefault(key, f"{key}: {_wanted(detail)}" if key else _wanted(detail))
    return list(lines.values())


def shown(value: object) -> str:
    """A value as a message shows it: short, on one line, without what may be a secret in a URL."""
    text = "nothing" if value is None else _URL_END.sub("://…", repr(value))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def dotted(location: Sequence[int | str]) -> str:
    """`a.b[0]` for ("a", "b", 0)."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every key there is, dotted: sections and what is in them."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{prefix}{name}.")


def nearest_key(key: str, model: type[BaseModel] = Config) -> str:
    """`; did you mean …?` for the known key nearest to an unknown one, or the keys there are."""
    section, _, name = key.rpartition(".")
    known = list(known_keys(model))
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == section}
    near = [siblings[found] for found in difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)]
    near = near or [other for other in known if other.rpartition(".")[2] == name]
    if not siblings:
        near = near or difflib.get_close_matches(key, known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(siblings.values())}" if siblings else ""


def _known_part(location: Sequence[int | str]) -> list[int | str]:
    """A location without the names pydantic gives to the branches of a union."""
    return [part for part in location if not (isinstance(part, str) and ("[" in part or "-" in part))]


def _wanted(detail: Mapping[str, Any]) -> str:
    kind, given = detail["type"], detail["input"]
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "tuple_type":
        hint = f"; write [{given}]" if isinstance(given, str) else ""
        return f"expected a list, given {shown(given)}{hint}"
    if kind == "model_type":
        return f"expected a section with keys of its own, given {shown(given)}"
    if kind == "string_type":
        hint = "" if given is None else "; put it in quotes"
        return f"expected text, given {shown(given)}{hint}"
    message = str(detail["msg"]).removeprefix("Input should be ").partition(", unable")[0]
    return f"expected {message}, given {shown(given)}"
