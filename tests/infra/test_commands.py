"""Every command that the documents and infra/ show is parsed by the program's own parser."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from pipeline.cli.app import app
from pipeline.cli.options import Session

from .conftest import INFRA, ROOT

DOCUMENTS = [ROOT / "docs" / f"{name}.md" for name in ("operations", "evaluation", "training")]
SHOWN_IN = [ROOT / "README.md", *DOCUMENTS, *sorted(p for p in INFRA.rglob("*") if p.is_file())]
COMMAND = re.compile(r"(?<![\w./:=-])embedpipe (?=[a-z-])")
END = re.compile(r"\s#|[|;&>]|…|\\$|$")


def code(path: Path) -> Iterator[str]:
    """Lines that may hold commands: of Markdown what is set as code, of anything else all, comments too."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".md":
        yield from re.sub(r"\\\n\s*#?\s*", " ", text).splitlines()
        return
    blocks = re.findall(r"^\s*```\w*\n(.*?)^\s*```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()
    prose = re.sub(r"^\s*```\w*\n.*?^\s*```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", prose)


def commands() -> list[Any]:
    found = []
    for path in SHOWN_IN:
        for line in code(path) if path.exists() else ():
            for match in COMMAND.finditer(line):
                rest = line[match.end() :]
                words = shlex.split(rest[: END.search(rest).start()])  # type: ignore[union-attr]
                found.append(pytest.param(words, id=f"{path.name}: {' '.join(words)}"))
    return found


@pytest.mark.parametrize("words", commands())
def test_the_program_knows_the_command_and_its_options(words: list[str]) -> None:
    parser: Any = get_command(app)
    context = parser.make_context("embedpipe", list(words), obj=Session())
    while hasattr(parser, "commands"):
        rest = [*context._protected_args, *context.args]
        name, parser, rest = parser.resolve_command(context, rest)
        bare = name == words[-1]  # `embedpipe run` in a sentence
        context = parser.make_context(name, rest, parent=context, resilient_parsing=bare)


@pytest.mark.parametrize(
    "words", [["walk"], ["run", "--colour"], ["files", "OUT", "--load", "oracle"], ["run", "--json"]]
)
def test_a_command_the_program_does_not_know_is_found(words: list[str]) -> None:
    with pytest.raises(typer.TyperException):
        test_the_program_knows_the_command_and_its_options(words)


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) >= 20


def test_the_runbook_is_where_readers_are_sent() -> None:
    for path in (ROOT / "README.md", INFRA / "README.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
            if "infra" in path.parts or "infra" in target or "operations" in target:
                assert (path.parent / target).exists(), target
