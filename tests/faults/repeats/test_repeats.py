"""What is repeated is all that runs on Ray: a test that passes now and then only hides where it isn't looked for."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from faults.ledger import ROOT
from faults.repeats.soak import RAY_SHARE

FAULTS = ROOT / "tests" / "faults"
SIGNS = ("ray_head(", "Cluster(", "Clusters(", "'ray'")
"""Of a Ray that is started, in the source of a test, or of a fixture or function of its module that it uses."""

NONE_STARTED = {
    "chaos/test_judges.py": "their cluster is a stand-in",
    "security/test_cluster.py::test_a_dashboard_open_to_the_network_is_refused_and_nothing_is_sent_to_it": "it is a canary",
    "security/test_cluster.py::test_a_dashboard_that_ray_would_look_up_itself_is_sent_nothing": "it is a canary",
    "security/test_secrets.py::test_what_is_submitted_holds_no_secret": "what would be sent is laid down",
    "security/test_versions.py": "the name of a package",
}
"""Tests with such a sign that start no Ray."""


def test_the_share_that_is_repeated_is_every_fault_test_that_starts_ray_and_no_other() -> None:
    """It was a list of files, in which a new test is not: one with a real head had never been repeated, judges had been."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *RAY_SHARE]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    share = {line.removeprefix("tests/faults/").partition("[")[0] for line in listed if "::" in line}
    assert not [line for line in listed if "serial" in line]
    signed = {name for path in sorted(FAULTS.rglob("test_*.py")) if path != Path(__file__) for name in _signed(path)}
    told = {name for name in signed - share if not NONE_STARTED.keys() & {name, name.partition("::")[0]}}
    assert not told, "mark it `ray`, or say here why it starts none"
    assert share <= signed
    assert "security/test_cluster.py::test_a_cluster_takes_no_order_without_its_token" in share
    assert not any(name.startswith("chaos/test_judges.py") for name in share)


def _signed(path: Path) -> Iterator[str]:
    """Its tests with a sign, as pytest names them from tests/faults/ on."""
    functions = {one.name: one for one in ast.parse(path.read_text()).body if isinstance(one, ast.FunctionDef)}
    for name in functions:
        if name.startswith("test_") and any(sign in _reached(name, functions) for sign in SIGNS):
            yield f"{path.relative_to(FAULTS).as_posix()}::{name}"


def _reached(name: str, functions: dict[str, ast.FunctionDef]) -> str:
    """The source of a function and of all in its module that it names, as an argument or anywhere else."""
    seen, left = set[str](), [name]
    while left:
        seen.add(now := left.pop())
        nodes = list(ast.walk(functions[now]))
        named = {one.arg for one in nodes if isinstance(one, ast.arg)} | {
            one.id for one in nodes if isinstance(one, ast.Name)
        }
        left += (named & functions.keys()) - seen
    return "\n".join(ast.unparse(functions[one]) for one in seen)
