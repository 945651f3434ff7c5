"""Time from `embedpipe run` to the first committed unit."""

import statistics
import subprocess
import time
from pathlib import Path

from jobs.figures.common import Figure, docstrings, make_job, start, table

ROUNDS = 3


def measure(folder: Path, rounds: int = ROUNDS) -> Figure:
    """Small units, so that what is measured is the way there and not the encoding."""
    source = docstrings(folder / "texts", 2000)
    values: dict[str, list[float]] = {"serial": [], "ray": []}
    for number in range(rounds):
        for engine, found in values.items():
            job = make_job(source, folder / f"{engine}-{number}", execution__engine=engine, units__rows=64)
            found.append(until_first_unit(job.output.path, start(job, folder / f"{engine}-{number}-job")))
    rows = [
        (name, f"{statistics.median(found):.1f} s", ", ".join(f"{value:.1f}" for value in found))
        for name, found in (("`engine: serial`", values["serial"]), ("embedded Ray", values["ray"]))
    ]
    text = (
        "From the start of the command to the first unit's commit record on disk (units of 64 rows): Python, torch and the "
        "model are loaded and the parity gate is passed on the way.\n\n" + table(("", "median", "single runs"), rows)
    )
    return Figure("Time to the first committed unit", text, values)


def until_first_unit(output: str, process: "subprocess.Popen[str]") -> float:
    """Seconds from now until a unit's record stands; the process is ended then."""
    began = time.monotonic()
    records = Path(output, "_embedpipe", "unit")
    while not any(records.rglob("*.json")):
        if process.poll() is not None:
            raise RuntimeError(f"the job ended early:\n{process.communicate()[1]}")
        time.sleep(0.01)  # between two looks; how exact the figure is
    seconds = time.monotonic() - began
    process.terminate()
    process.communicate()
    return seconds
