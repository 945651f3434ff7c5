"""The launcher file, against Ray's own schema and the promises of its comments."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from .conftest import INFRA, ROOT

TEXT = (INFRA / "ray-cluster.yaml").read_text()
CONFIG: dict[str, Any] = yaml.safe_load(TEXT)
HEAD = CONFIG["available_node_types"][CONFIG["head_node_type"]]
[WORKERS] = [node for name, node in CONFIG["available_node_types"].items() if name != CONFIG["head_node_type"]]


def test_ray_accepts_it() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jsonschema.validate(CONFIG, schema)


def test_the_head_is_on_demand_and_workers_are_spot_and_none_when_idle() -> None:
    assert "InstanceMarketOptions" not in HEAD["node_config"]
    assert HEAD["resources"] == {"CPU": 0}
    assert WORKERS["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert WORKERS["min_workers"] == 0
    assert WORKERS["max_workers"] == CONFIG["max_workers"]


def test_roles_instead_of_keys_and_no_metadata_for_containers() -> None:
    for node in (HEAD, WORKERS):
        assert node["node_config"]["IamInstanceProfile"]["Arn"].startswith("arn:aws:iam::")
        assert node["node_config"]["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        assert node["node_config"]["BlockDeviceMappings"][0]["Ebs"]["Encrypted"]
    assert not re.search(r"AKIA|ACCESS_KEY|SECRET", TEXT)


def test_nothing_but_ssh_is_open_and_not_to_everybody() -> None:
    """An open dashboard is an open shell."""
    rules = CONFIG["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)]
    assert "0.0.0.0" not in TEXT
    starts = [command for command in CONFIG["head_start_ray_commands"] if "ray start" in command]
    assert all("--dashboard-host=127.0.0.1" in command for command in starts)


@pytest.mark.parametrize("key", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_starts_with_its_token_only(key: str) -> None:
    """Before Ray 2.61 `ray start` goes on without authentication when it is not asked for."""
    [start] = [command for command in CONFIG[key] if "ray start" in command]
    assert start.index("RAY_AUTH_MODE=token") < start.index("ray start")
    assert "/home/ubuntu/.ray/auth_token" in CONFIG["file_mounts"]


def test_nodes_get_the_pinned_versions_from_files_that_exist() -> None:
    for target, source in CONFIG["file_mounts"].items():
        assert source.startswith("~") or (ROOT / source).exists(), target
    installs = [c for key in ("setup_commands", "head_setup_commands") for c in CONFIG[key] if "pip install" in c]
    assert installs
    assert all("constraints.txt" in command for command in installs)


def test_the_gpus_are_asked_for_before_the_job_is_sent() -> None:
    """A run does not wait for nodes: sent to an idle cluster, it would be refused for want of a GPU."""
    assert TEXT.index("request_resources") < TEXT.index("embedpipe submit")
    assert int(re.search(r"\] \* (\d+)\)", TEXT)[1]) == WORKERS["max_workers"]  # type: ignore[index]
