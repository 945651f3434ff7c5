"""Values that try to leave the folder they are filed under, and keys that try to leave the output."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from faults.security.case import Case, World, job, refused

from pipeline.errors import EmbedpipeError, InputError
from pipeline.sink.partition import folder_of
from pipeline.storage.local import LocalStore

VALUES = (
    "../../x", "..", ".", "../", "/etc/passwd", "//x", "a/../../../x", "%2e%2e", "%2e%2e%2f%2e%2e%2fx", "..%2F..%2Fx",
    "..\\..\\x",
    "\0", "a\0/../b", "", " ", "__HIVE_DEFAULT_PARTITION__", "x" * 300, "ü" * 100, "．．／x", "‥/x", "․․/x", "a\nb", "a\rb",
    "\x1b[31m",
    "C:\\x", "~", "~root", "$HOME", "`id`", "$(id)", "; rm -rf x", "a=b", "p=../x", "*", "?", "[a]", "{a,b}", "'", '"',
    "' OR 1=1 --",
    "_SUCCESS", "_embedpipe", ".hidden", "\u202egnp", "\ufeff", "con", "nul.txt", "-rf", "#x", "?x=y", "a&b", "007", "1e5", "NaN",
)  # fmt: skip
KEYS = ("../x", "/etc/x", "a/../../x", "..", ".", "", "a//b", "a/./b", "data/../../x", "data/..")


def _value(value: str) -> Callable[[World], None]:
    """Refused, or a single folder whose name gives the value back."""

    def act(_: World) -> None:
        try:
            folder = folder_of(["p"], [value])
        except InputError:
            return
        name, slash, rest = folder.partition("/")
        assert (slash, rest) == ("/", "")
        assert name.isascii()
        assert name.isprintable()
        assert unquote(name.removeprefix("p=")) == value
        assert name.removeprefix("p=") not in ("", ".", "..")

    return act


def _whole_job(value: str) -> Callable[[World], None]:
    """Whatever becomes of the row, nothing lies outside the output."""

    def act(world: World) -> None:
        source = world.folder / "in" / "rows.jsonl"
        source.parent.mkdir()
        source.write_text(json.dumps({"text": "a text", "p": value}) + "\n")
        raw = {
            "input": {"paths": [str(source)], "text": "text"},
            "model": {"name": world.model},
            "output": {"path": str(world.folder / "out" / "deep"), "partition_by": ["p"]},
        }
        try:
            job(raw)
        except EmbedpipeError as error:
            if error.exit_code not in (3, 4, 5):
                raise AssertionError(error.message) from error
        assert {path.name for path in world.folder.iterdir()} == {"in", "out"}
        assert {path.name for path in (world.folder / "out").iterdir()} == {"deep"}

    return act


def _key(key: str) -> Callable[[World], None]:
    def act(world: World) -> None:
        store = LocalStore(str(world.folder / "out"))
        for call in (
            lambda: store.put(key, b"x"),
            lambda: store.put_new(key, b"x"),
            lambda: store.get(key),
            lambda: store.delete([key]),
        ):
            refused(call, 4)
        assert not Path(world.folder, "x").exists()

    return act


CASES = [
    *(Case(f"partition value {value[:40]!r}", _value(value)) for value in VALUES),
    *(Case(f"a job partitioned by {value!r}", _whole_job(value)) for value in VALUES[:12:2]),
    *(Case(f"key {key!r}", _key(key)) for key in KEYS),
]
