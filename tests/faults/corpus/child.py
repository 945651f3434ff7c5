"""A process that reads files and can be lost: it answers on standard output, and its owner kills it when it doesn't.

`python -m faults.corpus.child MODULE FOLDER`: for each line of input `MODULE.judge(line, folder)`, an `Outcome`.
"""

import gc
import importlib
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

MEMORY_MIB = 400
SECONDS = 10.0
DEAF_S = 60.0
"""When a child that doesn't answer is killed: later than `SECONDS`, for a machine that is busy with something else."""


@dataclass(frozen=True)
class Outcome:
    """What a process did with one file."""

    what: str  # read, refused, wrong, crashed or hung
    detail: str = ""
    grown_mib: float = 0.0
    seconds: float = 0.0  # of this process's own time
    kind: str = ""

    @property
    def over_memory(self) -> bool:
        """Whether reading took more memory than it may."""
        return self.grown_mib > MEMORY_MIB

    @property
    def over_time(self) -> bool:
        """Whether reading took longer than it may."""
        return self.what == "hung" or self.seconds > SECONDS

    @property
    def bad(self) -> bool:
        """Whether anything is not as it must be."""
        return self.what not in ("read", "refused") or self.over_memory or self.over_time


class Child:
    """The process as its owner has it; started anew whenever it was lost."""

    def __init__(self, module: str, folder: Path, deaf_s: float = DEAF_S) -> None:
        self._module, self._folder, self._deaf_s = module, folder, deaf_s
        self._process: subprocess.Popen[bytes] | None = None
        self._left = b""

    def ask(self, line: str) -> Outcome:
        """What became of one file. Never raises for what the process does."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            answer = self._answer(process)
        except BrokenPipeError:
            answer = None
        if answer is not None:
            return Outcome(**json.loads(answer))
        hung = process.poll() is None and self._hung
        code = self.close()
        return Outcome("hung" if hung else "crashed", f"ended with {code}: {self._last_words()}")

    def close(self) -> int | None:
        """End the process; what it ended with."""
        process, self._process, self._left = self._process, None, b""
        if process is None:
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        if not self._hung:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        else:
            process.kill()
        code = process.wait()
        process.stdout.close()
        return code

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            tests = Path(__file__).parents[2]
            paths = [str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-X", "faulthandler", "-m", "faults.corpus.child", self._module, str(self._folder)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment,
                )  # fmt: skip
        self._hung = False
        return self._process

    def _answer(self, process: "subprocess.Popen[bytes]") -> bytes | None:
        assert process.stdout is not None
        deadline = time.monotonic() + self._deaf_s
        while b"\n" not in self._left:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                self._hung = not ready
                return None
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        return line

    @property
    def _log(self) -> Path:
        return self._folder / "stderr"

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-1500:]


def serve(module: str, folder: str) -> None:
    """Answer line by line until the input ends."""
    judge = importlib.import_module(module).judge
    gc.freeze()  # what is loaded stays: collecting before each file need not look at it
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else may speak where the answers go
    for line in sys.stdin:
        started = time.process_time()
        outcome = judge(line.strip(), Path(folder))
        outcome = replace(outcome, seconds=outcome.seconds or time.process_time() - started)
        answers.write(json.dumps(asdict(outcome)) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
