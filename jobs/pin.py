"""Write constraints.txt anew: the newest versions that fit pyproject.toml and one another.

python jobs/pin.py
"""

import json
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
HEAD = """\
# Every package that embedpipe, its extras and its tests need, exactly as they were tested together.
# Install with `pip install -c constraints.txt '.[dev]'`; `make constraints` writes this file anew.
"""


def main() -> None:
    """Let pip resolve everything as if nothing were installed, and write down what it chose."""
    report = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-",
         f"{PROJECT}[dev,gcs,azure,train]"],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    pins = {}
    for package in json.loads(report.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", package["metadata"]["name"]).lower()
        pins[name] = package["metadata"]["version"].partition("+")[0]  # without the mark of a local build
    del pins["embedpipe"]
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))
    (PROJECT / "constraints.txt").write_text(HEAD + lines, encoding="utf-8")
    print(f"{len(pins)} packages pinned")


if __name__ == "__main__":
    main()
