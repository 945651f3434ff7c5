"""docs/operations.md against the program: messages, settings, exit codes and figures that it names."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

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


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EmbedpipeError)]
CODES = sorted({0, *(kind.exit_code for kind in KINDS)})
KILLED = 137
AGAIN = 4


def test_every_exit_code_has_a_line_that_says_whether_to_run_again() -> None:
    lines = {int(code): again for code, again in re.findall(r"^\| (\d) \|[^|]*\| ([^|]*) \|", TEXT, re.MULTILINE)}
    assert sorted(lines) == CODES
    assert {code for code, again in lines.items() if again == "**yes**"} == {AGAIN}
    assert {code for code, again in lines.items() if again == "no"} == {*CODES} - {0, AGAIN}


def recipe(language: str, word: str) -> str:
    """The one code block of a language that holds a word."""
    [found] = [block for block in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL) if word in block]
    return str(found)


@pytest.mark.parametrize("code", [*CODES, KILLED])
def test_every_recipe_tries_again_on_4_and_on_no_other_code(code: int, tmp_path: Path) -> None:
    """One that tries again where somebody must decide hides it from them; one that doesn't on 4 leaves the job undone."""
    command = tmp_path / "embedpipe"
    command.write_text(f"#!/bin/sh\necho called\nexit {code}\n")
    command.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    cron = subprocess.run(["bash", "-c", recipe("sh", "# cron")], env={"PATH": path}, capture_output=True, text=True)
    assert cron.returncode == code
    assert (cron.stdout.count("called") > 1) == (code == AGAIN)

    job = yaml.safe_load(recipe("yaml", "kind: CronJob"))["spec"]["jobTemplate"]["spec"]
    rules = [rule for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    fails = [rule for rule in rules if rule["action"] == "FailJob" and _matches(rule["onExitCodes"], code)]
    assert bool(fails) == (code not in (0, AGAIN))
    assert job["backoffLimit"] > 0

    raised = _run_airflow(recipe("python", "Airflow"), code)
    assert raised == {0: "", AGAIN: "AirflowException"}.get(code, "AirflowFailException")


def _matches(on_exit_codes: dict[str, Any], code: int) -> bool:
    """As Kubernetes does, which leaves 0 out of it."""
    listed = code in on_exit_codes["values"]
    return code != 0 and (listed if on_exit_codes["operator"] == "In" else not listed)


def _run_airflow(source: str, code: int) -> str:
    """The name of the exception that the task ends with."""

    class Fake:
        returncode = code

        @classmethod
        def run(cls, *_: object) -> type["Fake"]:
            return cls

    names = {name: type(name, (Exception,), {}) for name in ("AirflowException", "AirflowFailException")}
    try:
        exec(source, {"subprocess": Fake, **names})
    except Exception as error:
        return type(error).__name__
    return ""


def test_paths_and_sections_that_it_points_to_exist() -> None:
    for path in re.findall(r"\binfra/[\w./-]+\w", TEXT):
        assert (ROOT / path).exists(), path
    headings = {re.sub(r"\W+", "-", h.lower()) for h in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= headings


def test_metrics_it_names_are_on_the_dashboard() -> None:
    dashboard = (INFRA / "grafana" / "dashboard.json").read_text()
    for name in re.findall(r"`(ray_embedpipe_\w+)`", TEXT):
        assert name in dashboard
