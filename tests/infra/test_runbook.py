"""docs/operations.md against the program: messages, settings, exit codes and figures that it names."""

import ast
import re
from functools import cache

import pytest

from pipeline import errors
from pipeline.config.schema import Config

from .conftest import INFRA, ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


@cache
def messages() -> list[str]:
    """All texts of the program; one with values in it is several."""
    nodes = (node for path in (ROOT / "pipeline").rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("quoted", sorted(set(re.findall(r"“([^”]+)”", TEXT)) - {"quotes"}))
def test_what_the_runbook_quotes_is_what_the_program_says(quoted: str) -> None:
    """A symptom in other words than the message can't be found by searching for it."""
    assert any(quoted in text for text in messages())


@pytest.mark.parametrize(
    "setting", sorted(set(re.findall(r"`((?:input|model|rows|units|output|execution)\.\w+)", TEXT)))
)
def test_settings_that_the_runbook_names_exist(setting: str) -> None:
    section, _, key = setting.partition(".")
    assert key in getattr(Config.model_fields[section].annotation, "model_fields")  # noqa: B009


def test_every_exit_code_has_a_line() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EmbedpipeError)
    ]
    codes = {0, *(kind.exit_code for kind in kinds)}
    assert {int(code) for code in re.findall(r"^\| (\d) \|", TEXT, re.MULTILINE)} == codes


def test_paths_and_sections_that_it_points_to_exist() -> None:
    for path in re.findall(r"\binfra/[\w./-]+\w", TEXT):
        assert (ROOT / path).exists(), path
    headings = {re.sub(r"\W+", "-", h.lower()) for h in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= headings


def test_metrics_it_names_are_on_the_dashboard() -> None:
    dashboard = (INFRA / "grafana" / "dashboard.json").read_text()
    for name in re.findall(r"`(ray_embedpipe_\w+)`", TEXT):
        assert name in dashboard
