"""Names that speak to what shows or reads them: a terminal, a log collector, a warehouse's SQL."""

import io
import json
import logging
import re
from collections.abc import Callable
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from faults.security.case import Case, World, job

from pipeline.cli.app import main
from pipeline.cli.logs import set_up_logging
from pipeline.cli.render import render_summary
from pipeline.cli.terminal import show, stderr
from pipeline.export.load import load_statement
from pipeline.export.snapshot import DataFile, Published

NAMES = (
    "\x1b]0;owned\x07x",
    "\x1b[2J\x1b[31mx",
    "a\x07b",
    "a\rb",
    "\x9b31mx",
    "a\x08\x08b",
    "\x1bPx\x1b\\",
    "\x7fx",
    "\x85x",
    "\x0ex\x0f",
    "\x1b(0x",
)
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ROOTS = (
    "it's",
    "it\\'s",
    "a\\",
    "a'); DROP TABLE x; --",
    "a\\'); DROP TABLE x; --",
    "a\nb",
    '"a"',
    "$(id)",
    "`a`",
    "a''b",
    "a\\\\'b",
    "%s{0}",
    "x' || 'y",
)


def _screen(print_it: Callable[[str], object]) -> Callable[[str], Callable[[World], None]]:
    """What reaches the terminal holds nothing that it obeys."""

    def of(name: str) -> Callable[[World], None]:
        def act(_: World) -> None:
            out, err = io.StringIO(), io.StringIO()
            with patch("sys.stdout", out), patch("sys.stderr", err):
                print_it(name)
            shown = out.getvalue() + err.getvalue()
            assert shown.strip()
            assert not OBEYED.search(shown), repr(shown)

        return act

    return of


def _log(name: str, *, json_lines: bool = False) -> None:
    before, level = logging.getLogger().handlers, logging.getLogger().level
    try:
        set_up_logging(stderr(), json_lines=json_lines)
        logging.getLogger("pipeline.x").warning("%s: could not be read", name)
    finally:
        logging.getLogger().handlers = before
        logging.getLogger().setLevel(level)
        logging.captureWarnings(False)


def _command(name: str) -> None:
    with patch("sys.argv", ["embedpipe"]):
        before, level = logging.getLogger().handlers, logging.getLogger().level
        try:
            assert main(["status", f"/tmp/{name}/nowhere"]) == 0
            assert main(["run", "-c", f"/tmp/{name}/nowhere.yaml"]) == 2
        finally:
            logging.getLogger().handlers = before
            logging.getLogger().setLevel(level)
            logging.captureWarnings(False)


def _summary(name: str) -> Callable[[World], None]:
    """A file of such a name, damaged: its name is in the summary of the run."""

    def act(world: World) -> None:
        (world.folder / "in").mkdir()
        (world.folder / "in" / "good.jsonl").write_text(json.dumps({"text": "a text"}) + "\n")
        (world.folder / "in" / f"{name}.parquet").write_bytes(b"PAR1 no more")
        raw = {
            "input": {"paths": [str(world.folder / "in" / "*")], "text": "text"},
            "model": {"name": world.model},
            "output": {"path": str(world.folder / "out"), "max_rejected_share": 1},
        }
        summary = job(raw)
        assert summary.failed
        _screen(lambda _: show(render_summary(summary)))(name)(world)

    return act


def _published(root: str, column: str = "kept") -> Published:
    files = tuple(DataFile(f"{root}/data/0-{index}.parquet", 1, 100, "0" * 64) for index in range(2))
    return Published(root, 1, files, 2, (("id", "string"), (column, "string")), ())


def _duckdb(name: str) -> Callable[[World], None]:
    """Run for real: it loads the rows that are there, and does nothing else."""

    def act(world: World) -> None:
        import duckdb

        root = world.folder / name.replace("/", "_")
        (root / "data").mkdir(parents=True)
        column = f'kept "{name}'
        for index in range(2):
            table = pa.table({"id": [str(index)], column: ["x"], "embedding": [[1.0, 2.0]]})
            pq.write_table(table, root / "data" / f"0-{index}.parquet")
        connection = duckdb.connect()
        connection.execute("CREATE TABLE x AS SELECT 1")
        connection.execute(load_statement("duckdb", _published(str(root), column)))
        assert connection.execute("SELECT count(*) FROM embeddings").fetchone() == (2,)
        assert connection.execute("SHOW TABLES").fetchall() == [("embeddings",), ("x",)]

    return act


def _literals(engine: str, scheme: str, name: str) -> Callable[[World], None]:
    """The strings of a statement, read as the engine reads them, are the files' names and no more."""

    def act(_: World) -> None:
        published = _published(f"{scheme}://bucket/{name}")
        statement = load_statement(engine, published)  # type: ignore[arg-type]
        strings = "".join(re.findall(r"'(?:\\.|[^'\\])*'", statement, re.DOTALL))
        found = [
            re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
            for text in re.findall(r"'(?:\\.|[^'\\])*'", statement, re.DOTALL)
        ]
        for file in published.files:
            wanted = file.uri.removeprefix(f"{published.root}/data/") if engine == "snowflake" else file.uri
            assert wanted in found, (wanted, statement)
        outside = re.sub(r"'(?:\\.|[^'\\])*'", "", statement, flags=re.DOTALL)
        assert "DROP" not in outside, strings
        assert "'" not in outside

    return act


def _python(name: str) -> Callable[[World], None]:
    def act(_: World) -> None:
        published = _published(f"s3://bucket/{name}")
        compile(load_statement("spark", published), "load", "exec")
        constants = load_statement("spark", published)
        assert all(repr("s3a://" + file.uri.removeprefix("s3://")) in constants for file in published.files)

    return act


CASES = [
    *(Case(f"terminal: error about {name!r}", _screen(_command)(name)) for name in NAMES),
    *(Case(f"terminal: log of {name!r}", _screen(_log)(name)) for name in NAMES),
    *(Case(f"terminal: JSON log of {name!r}", _screen(lambda name: _log(name, json_lines=True))(name)) for name in NAMES),
    *(Case(f"terminal: summary with {name!r}", _summary(name)) for name in NAMES[:5]),
    *(Case(f"DuckDB loads from {name!r}", _duckdb(name)) for name in ROOTS),
    *(Case(f"{engine} loads from {name!r}", _literals(engine, scheme, name))
      for engine, scheme in (("clickhouse", "s3"), ("bigquery", "gs"), ("snowflake", "s3")) for name in ROOTS),
    *(Case(f"Spark loads from {name!r}", _python(name)) for name in ROOTS),
]  # fmt: skip
