"""Texts that a stream can't spell: a name that isn't UTF-8, an id in letters that the terminal's encoding lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .conftest import Job
from .test_terminal import PROGRAM

STRANGE = "caf\udce9"
"""As Python spells the bytes `caf\\xe9` of a name."""


def ended(encoding: str, *arguments: object, closed: str = "") -> "subprocess.CompletedProcess[bytes]":
    """The command, whose streams have this encoding and, as in most locales, let nothing else pass."""
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [*PROGRAM, *map(str, arguments)]
    if closed:
        command = ["sh", "-c", f'exec "$0" "$@" {closed}', *command]
    ran = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert b"a bug" not in ran.stderr
    assert b"Traceback" not in ran.stderr
    return ran


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_foreign_file_with_a_strange_name_is_told_of(own: Job, encoding: str) -> None:
    """A run that has published would end as a bug of ours, with exit code 1."""
    strange = own.out / "data" / f"{STRANGE}.txt"
    strange.touch()
    verified = ended(encoding, "verify", own.out, "--no-source", "--json")
    assert verified.returncode == 6
    checks = json.loads(verified.stdout.decode(encoding))["checks"]
    assert [check for check in checks if f"data/{STRANGE}.txt" in check["detail"]]
    run = ended(encoding, "run", "-c", own.file)
    assert (run.returncode, b"data/caf\\udce9.txt" in run.stdout) == (0, True)
    again = ended(encoding, "run", "-c", own.file, "--json")
    (said,) = [text for text in json.loads(again.stdout)["messages"] if "did not put there" in text]
    name = next(word for word in said.split() if word.startswith("data/caf"))
    assert os.fsencode(own.out / name) == os.fsencode(strange), "whoever reads the JSON can remove the file"


@pytest.mark.parametrize(
    ("command", "encoding", "code"),
    [("status", "utf-8", 0), ("files --json", "utf-8", 3), ("files --json", "latin-1", 3), ("run -c", "utf-8", 2)],
)
def test_a_strange_name_on_the_command_line_is_no_bug(tmp_path: Path, command: str, encoding: str, code: int) -> None:
    """The report of that bug would end in a traceback of its own, and `--json` give no JSON."""
    place = tmp_path / STRANGE
    ran = ended(encoding, *command.split(), place)
    assert ran.returncode == code
    assert b"/caf\\udce9" in ran.stdout + ran.stderr
    if "--json" in command:
        assert json.loads(ran.stdout)["error"].startswith(f"{place}: ")


def test_a_strange_name_does_no_harm_where_the_streams_are_closed(tmp_path: Path) -> None:
    assert ended("utf-8", "files", "--json", tmp_path / STRANGE, closed=">&- 2>&-").returncode == 3


def test_ids_that_a_terminal_lacks_the_letters_for_are_listed(job: Job) -> None:
    """`quarantine list` on a terminal in latin-1, or piped where the locale is C, ended as a bug."""
    rows = {"id": ["東京", "é😀", "c"], "text": [None, None, "a text"], "lang": ["ja"] * 3}
    place = job.source / "日本"
    place.mkdir()
    pq.write_table(pa.table(rows), place / "rows.parquet")
    job.change(output__max_rejected_share=1.0, input__paths=[str(place)])
    assert ended("ascii", "run", "-c", job.file).returncode == 0

    spelt = {
        "utf-8": "東京, é😀",
        "latin-1": r"\u6771\u4eac, é\ud83d\ude00",
        "ascii": r"\u6771\u4eac, \u00e9\ud83d\ude00",
    }
    for encoding, ids in spelt.items():
        listed = ended(encoding, "quarantine", "list", job.out)
        assert listed.returncode == 0
        assert all(f"id {id_}: the text is null".encode(encoding) in listed.stdout for id_ in ids.split(", "))
        in_json = ended(encoding, "quarantine", "list", job.out, "--json").stdout
        assert [row["id"] for row in json.loads(in_json)["shown"]] == ["東京", "é😀"]
        assert ("東京".encode() in in_json) == (encoding == "utf-8"), "readable where it can be"


LOGGED = """
import logging
from pipeline.cli.logs import set_up_logging
from pipeline.cli.terminal import keep_going, stderr

keep_going()
set_up_logging(stderr(), json_lines=True)
logging.getLogger("pipeline").warning("東京 é😀 caf\\udce9")
"""


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_json_logs_stay_json(encoding: str) -> None:
    """A collector that meets one other line drops the stream."""
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ran = subprocess.run([sys.executable, "-c", LOGGED], env=environment, capture_output=True, check=True)
    assert json.loads(ran.stderr.decode(encoding))["message"] == f"東京 é😀 {STRANGE}"
