"""Processes by the hundred: one that has imported the program forks a child for every process a case needs.

`Forks` is the near side of it; `python -m faults.sweep.forks` is the far side. A child runs commands of embedpipe, as they
would be typed, with a fault; it ends by itself, or by its fault.
"""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from faults.hooks import environment
from faults.sweep.faulty import SOURCE_FILES, begin
from faults.sweep.kinds import DIED, Fault
from faults.sweep.mutants import MUTANTS

HANGS_AFTER_S = 60


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    codes: tuple[int, ...]  # of its commands; () when it died
    died: bool  # by its fault
    lost: str  # what else ended it, "" where nothing did: a signal (SIGALRM when it hung), an exception nobody caught
    operations: tuple[tuple[str, str], ...]  # (method, key), where it lived to tell
    fired: tuple[str, str] | None  # the operation its fault happened to
    told: str  # stdout and stderr


class Forks:
    """The process that forks; a context manager. With a `mutant` its children run a program broken in that way.

    Wherever `home` is, children find it under the same name: `HERE` of `faults.sweep.job`. That, fixed names for versions of the
    source (`source_files`: name → path) and fixed hashes of strings make a seed's operations the same in every process.
    """

    def __init__(self, folder: Path, home: Path, source_files: Mapping[str, str], settings: Mapping[str, str]) -> None:
        self.mutant = ""
        self._number = 0
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.sweep.forks"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=home,
            env=environment(
                "faults.encoder", "faults.sweep.faulty", TOKENIZERS_PARALLELISM="false", PYTHONHASHSEED="0",
                **{SOURCE_FILES: json.dumps(dict(source_files))}, **settings,
            ),
        )  # fmt: skip

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def forget(self) -> None:
        """Nothing is on its way any more: another case begins."""
        (self._folder / "late").unlink(missing_ok=True)

    def run(self, commands: Sequence[Sequence[str]], seed: str, fault: Fault | None = None) -> Ended:
        """Run commands in a new process. One without a fault receives what faulty ones before it left on its way."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._number += 1
        task = {
            "number": self._number,
            "commands": commands,
            "seed": seed,
            "fault": fault and vars(fault),
            "mutant": self.mutant,
            "folder": str(self._folder),
        }
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        number = status = -1
        while number != self._number:  # a test that ran out of time leaves an answer unread
            number, status = map(int, self._process.stdout.readline().split())
        report = self._folder / "report"
        found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
        return Ended(
            codes=tuple(found.get("codes", ())),
            died=os.waitstatus_to_exitcode(status) == DIED,
            lost=""
            if status == 0 or os.waitstatus_to_exitcode(status) == DIED
            else f"exit {os.waitstatus_to_exitcode(status)}",
            operations=tuple((method, key) for method, key in found.get("operations", ())),
            fired=_operation(self._folder / "fired"),
            told=(self._folder / "told").read_text(errors="replace"),
        )


def _operation(file: Path) -> tuple[str, str] | None:
    if not file.exists():
        return None
    method, key = json.loads(file.read_text())
    return method, key


def serve() -> None:
    """Fork for every line of stdin; tell how each child ended. Ends with stdin."""
    import pipeline.cli.app
    import pipeline.encode.encoder
    import pipeline.flow.duplicate_ids
    import pipeline.flow.maintenance
    import pipeline.flow.publishing
    import pipeline.flow.serial
    import pipeline.flow.supervisor
    import pipeline.quality.gate
    import pipeline.sink.assemble
    import pipeline.storage.s3

    # or the k-th operation would be another one each time
    pipeline.flow.serial.AHEAD = pipeline.flow.duplicate_ids.READERS = pipeline.sink.assemble.READERS = 0
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        task = json.loads(line)
        folder = Path(task["folder"])
        for name in ("report", "fired"):
            (folder / name).unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            _be_child(task, folder)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{task['number']} {status}\n")
        sys.stdout.flush()


def _be_child(task: Mapping[str, Any], folder: Path) -> None:
    signal.alarm(HANGS_AFTER_S)
    told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(told, 1)
    os.dup2(told, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = 1
    with contextlib.suppress(BaseException):
        _run(task, folder)
        sys.stdout.flush()
        status = 0
    os._exit(status)


def _run(task: Mapping[str, Any], folder: Path) -> None:
    from pipeline.cli.app import main

    fault = Fault(**task["fault"]) if task["fault"] else None
    if task["mutant"]:
        MUTANTS[task["mutant"]]()
    late = folder / "late"
    script = begin(fault, late, folder / "fired", task["seed"])
    codes = []
    for command in task["commands"]:
        codes.append(main(command))
        if fault is None:
            script.arrive_all()
    script.save(late)
    report = {"codes": codes, "operations": script.log}
    (folder / "report").write_text(json.dumps(report))


if __name__ == "__main__":
    serve()
