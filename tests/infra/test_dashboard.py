"""The Grafana dashboard against the counters of the program."""

import ast
import json
import re

from .conftest import INFRA, ROOT

DASHBOARD = json.loads((INFRA / "grafana" / "dashboard.json").read_text())
METRICS = (ROOT / "pipeline" / "flow" / "metrics.py").read_text()


def counters() -> set[str]:
    """Names of the counters that flow/metrics.py makes."""
    calls = [node for node in ast.walk(ast.parse(METRICS)) if isinstance(node, ast.Call)]
    named = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Counter"]
    return {str(argument.value) for argument in named if isinstance(argument, ast.Constant)}


def test_it_shows_counters_that_exist() -> None:
    """A panel on a misspelt name shows an empty graph, which reads like nothing is wrong."""
    shown = set(re.findall(r"ray_(embedpipe_\w+)", json.dumps(DASHBOARD)))
    assert len(shown) >= 4
    assert shown <= counters()


def test_panels_have_ids_of_their_own_and_ask_the_chosen_source() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert all("$output" in target["expr"] for panel in panels for target in panel["targets"])
