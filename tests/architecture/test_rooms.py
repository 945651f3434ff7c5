"""The shape of the house, read from the imports: rooms import only from rooms above them, one module per outside system."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pipeline"

ORDER = ["errors", "storage", "config", "model", "source", "spec", "sink", "commit", "plan", "text", "encode", "quality",
         "progress", "flow", "check", "export", "evaluate", "train", "cli"]  # fmt: skip
"""From the top of the house to the bottom; `__init__`, `__main__` and `sample` belong to the cli."""

ALONE = {
    "fsspec": {"storage"},
    "s3fs": {"storage"},
    "botocore": {"storage"},
    "yaml": {"config"},
    "torch": {"encode", "quality", "model/convert.py", "check", "evaluate", "train"},
    "sentence_transformers": {"encode", "quality", "check", "evaluate", "train"},
    "pytrec_eval": {"evaluate/scores.py"},
    "matplotlib": {"evaluate/plot.py"},
    "transformers": {"text", "encode", "model", "train"},
    "ray": {
        "flow/ray_engine.py",
        "flow/ray_assembly.py",
        "flow/ray_watch.py",
        "flow/cluster.py",
        "flow/desk.py",
        "flow/losses.py",
        "flow/metrics.py",
        "flow/submit.py",
    },
    "duckdb": {"check", "cli"},
    "typer": {"cli"},
    "rich": {"cli", "progress/live.py"},
}
"""Outside systems and who may know them: a room, or one file of it."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room(path: Path) -> str:
    first = place(path).split("/")[0].removesuffix(".py")
    return first if first in ORDER else "cli"


@pytest.mark.parametrize("path", modules(), ids=place)
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    """Data moves one way; an import the other way is where a cycle begins."""
    for name in imports(path):
        if name.startswith("pipeline."):
            other = room(PACKAGE / name.split(".")[1])
            assert ORDER.index(other) <= ORDER.index(room(path)), f"{place(path)} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=place)
def test_each_outside_system_is_known_in_one_place(path: Path) -> None:
    for name in imports(path):
        allowed = ALONE.get(name.split(".")[0])
        assert allowed is None or room(path) in allowed or place(path) in allowed, f"{place(path)} imports {name}"


@pytest.mark.parametrize("path", [p for p in modules() if room(p) == "check"], ids=place)
def test_the_checker_shares_no_code_with_the_writers(path: Path) -> None:
    """A checker that inherits the writer's reading of the rules inherits its mistakes."""
    for name in imports(path):
        if name.startswith("pipeline."):
            assert name.split(".")[1] in {"errors", "storage", "check"}, f"{place(path)} imports {name}"


@pytest.mark.parametrize("path", [p for p in modules() if room(p) == "encode"], ids=place)
def test_the_encoder_runs_where_only_torch_and_sentence_transformers_are_installed(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in {"ray", "pydantic", "s3fs", "fsspec", "yaml"}, f"{place(path)} imports {name}"
        assert not name.startswith(("pipeline.config", "pipeline.storage", "pipeline.flow", "pipeline.spec"))


def test_planning_identity_and_protocol_records_do_no_io() -> None:
    pure = [
        PACKAGE / "spec.py",
        *(PACKAGE / "plan").glob("*.py"),
        PACKAGE / "source/segments.py",
        PACKAGE / "source/records.py",
    ]
    for path in pure:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                assert called not in {"open", "read_bytes", "read_text", "urlopen", "sleep"}, (
                    f"{place(path)}: {called}()"
                )


@pytest.mark.parametrize("path", modules(), ids=place)
def test_files_stay_one_idea_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
