"""The container file, read instruction by instruction; there is no builder here."""

import json
import re
import tomllib

import pytest

from .conftest import INFRA, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXT = (INFRA / "Containerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest), with continued lines joined and comments dropped."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def all_of(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def test_every_stage_starts_from_one_exactly_tagged_base_of_a_supported_python() -> None:
    """A floating tag gives the head another Python than a worker that was built a week later."""
    assert [rest.split()[0] for rest in all_of("FROM")] == ["${BASE}"] * 2
    [base] = [rest.removeprefix("BASE=") for rest in all_of("ARG") if rest.startswith("BASE=")]
    assert re.fullmatch(r"docker\.io/library/python:3\.(11|12)\.\d+-slim-bookworm", base)
    assert base.split(":")[1].startswith(PROJECT["requires-python"].removeprefix(">="))
    assert "latest" not in re.sub(r"#.*", "", TEXT)
    assert "@sha256:" in TEXT, "the comment says how to pin the digest"


def test_it_runs_as_a_numeric_user_that_is_not_root() -> None:
    """Kubernetes can't tell whether a name is root, and refuses it under runAsNonRoot."""
    assert all_of("USER") == ["10001:10001"]
    after = [word for word, _ in instructions()][[word for word, _ in instructions()].index("USER") :]
    assert not {"RUN", "COPY"} & set(after)


def test_nothing_is_fetched_unverified_and_what_is_copied_exists() -> None:
    assert not all_of("ADD")
    for rest in all_of("COPY"):
        words = [word for word in rest.split() if not word.startswith("--")]
        if "--from=build" not in rest:
            assert all((ROOT / word).exists() for word in words[:-1]), rest
    for rest in all_of("RUN"):
        assert "curl" not in rest
        if "pip install" in rest:
            assert "-c constraints.txt" in rest


def test_the_build_finds_every_file_that_the_package_needs() -> None:
    copied = " ".join(all_of("COPY"))
    for path in (PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "pipeline", "constraints.txt"):
        assert path in copied


@pytest.mark.parametrize("path", ["/home/embedpipe", "/tmp"])
def test_what_is_written_lies_on_a_volume(path: str) -> None:
    assert path in json.loads(all_of("VOLUME")[0])


def test_home_and_temporary_files_are_on_those_volumes_and_no_secret_is_set() -> None:
    [settings] = all_of("ENV")[1:]
    found = dict(pair.split("=", 1) for pair in settings.split())
    assert (found["HOME"], found["TMPDIR"]) == ("/home/embedpipe", "/tmp")
    assert found["HF_HUB_OFFLINE"] == "1"
    assert not re.search(r"(?i)(secret|password|access_key|auth_token)\S*=", TEXT)


def test_labels_and_tags_are_those_of_the_project() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', all_of("LABEL")[0]))
    assert labels["version"] == PROJECT["version"]
    assert labels["licenses"] == PROJECT["license"]
    assert set(re.findall(r"embedpipe:([\w.]+)", TEXT)) == {PROJECT["version"]}


def test_the_entrypoint_is_a_command_of_the_project() -> None:
    [entrypoint] = all_of("ENTRYPOINT")
    assert json.loads(entrypoint)[0] in PROJECT["scripts"]
