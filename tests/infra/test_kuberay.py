"""The RayJob and what stands beside it: fields, versions, hardening, and a config that the program accepts."""

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.config.load import load_config

from .conftest import INFRA, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXT = (INFRA / "kuberay" / "rayjob.yaml").read_text()
DOCUMENTS: dict[str, dict[str, Any]] = {document["kind"]: document for document in yaml.safe_load_all(TEXT)}
JOB = DOCUMENTS["RayJob"]["spec"]
CLUSTER = JOB["rayClusterSpec"]
HEAD = CLUSTER["headGroupSpec"]
[WORKERS] = CLUSTER["workerGroupSpecs"]
PODS = {
    "submitter": JOB["submitterPodTemplate"],
    "head": HEAD["template"],
    "workers": WORKERS["template"],
}

JOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "entrypoint", "preRunningDeadlineSeconds", "rayClusterSpec",
    "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "ttlSecondsAfterFinished",
}  # fmt: skip
CLUSTER_FIELDS = {"authOptions", "headGroupSpec", "rayVersion", "workerGroupSpecs"}
GROUP_FIELDS = {"groupName", "maxReplicas", "minReplicas", "rayStartParams", "replicas", "template"}
"""Of the API reference of KubeRay 1.7; the API server drops what it doesn't know without a word."""


def pinned(package: str) -> str:
    [line] = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith(f"{package}==")]
    return line.split("==")[1].split()[0]


def mounts(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Mount path → volume."""
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    [container] = pod["spec"]["containers"]
    return {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}


def test_only_fields_that_kuberay_knows() -> None:
    assert DOCUMENTS["RayJob"]["apiVersion"] == "ray.io/v1"
    assert set(JOB) <= JOB_FIELDS
    assert set(CLUSTER) <= CLUSTER_FIELDS
    assert set(HEAD) <= {"rayStartParams", "template"}
    assert set(WORKERS) == GROUP_FIELDS
    assert all(isinstance(v, str) for group in (HEAD, WORKERS) for v in group["rayStartParams"].values())


def test_ray_and_the_image_have_the_versions_of_the_project() -> None:
    """Nodes of different Ray versions don't join; KubeRay chooses its commands by rayVersion."""
    assert CLUSTER["rayVersion"] == pinned("ray")
    [ray] = [r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "ray"]
    assert CLUSTER["rayVersion"] in SpecifierSet(str(ray.specifier))
    images = {pod["spec"]["containers"][0]["image"] for pod in PODS.values()}
    assert [image.rpartition(":")[2] for image in images] == [PROJECT["version"]]


def test_the_job_it_runs_is_accepted_and_fits_the_roles(tmp_path: Path) -> None:
    words = shlex.split(JOB["entrypoint"])
    config = words[words.index("-c") + 1]
    assert (
        mounts(PODS["head"])[str(Path(config).parent)]["configMap"]["name"]
        == DOCUMENTS["ConfigMap"]["metadata"]["name"]
    )
    (tmp_path / "job.yaml").write_text(DOCUMENTS["ConfigMap"]["data"][Path(config).name])
    job = load_config(tmp_path / "job.yaml", [words[words.index("--set") + 1]])
    assert (job.execution.address, job.execution.device) == ("auto", "cuda")
    role = (INFRA / "iam" / "writer.json").read_text()
    for uri in (job.input.paths[0].split("*")[0], job.model.name.rpartition("/")[0] + "/"):
        assert f"arn:aws:s3:::{uri.removeprefix('s3://')}*" in role
    assert f"arn:aws:s3:::{job.output.path.removeprefix('s3://').rpartition('/')[0]}/*" in role


@pytest.mark.parametrize("name", PODS)
def test_pods_pass_the_restricted_profile_with_a_read_only_root(name: str) -> None:
    pod = PODS[name]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert container["resources"]["requests"]["memory"]
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", PODS)
def test_all_that_is_written_has_a_volume_with_a_limit(name: str) -> None:
    """Without a limit a spilling object store fills the node's disk, and the node evicts its neighbours too."""
    found = mounts(PODS[name])
    volumes = re.search(r"^VOLUME (\[.*\])$", (INFRA / "Containerfile").read_text(), re.MULTILINE)
    assert volumes is not None
    writable = [*ast.literal_eval(volumes[1]), *(["/dev/shm"] if name != "submitter" else [])]
    for path in writable:
        assert found[path]["emptyDir"]["sizeLimit"]
    if name != "submitter":
        assert found["/dev/shm"]["emptyDir"]["medium"] == "Memory"


def test_credentials_come_from_the_role_and_the_cluster_asks_for_its_token() -> None:
    account = DOCUMENTS["ServiceAccount"]
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:aws:iam::")
    for name in ("head", "workers"):
        assert PODS[name]["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert not re.search(r"ACCESS_KEY|SECRET|SESSION_TOKEN", TEXT)


def test_the_policy_lets_only_these_pods_and_the_operator_reach_ray() -> None:
    """The dashboard runs code for whoever may talk to it."""
    policy = DOCUMENTS["NetworkPolicy"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    labels = policy["podSelector"]["matchLabels"]
    for pod in PODS.values():
        assert labels.items() <= pod["metadata"]["labels"].items()
        assert "app.kubernetes.io/name" not in pod["metadata"]["labels"], "KubeRay's head service selects by it"
    for rule in policy["ingress"]:
        [source] = rule["from"]
        assert source == {"podSelector": {"matchLabels": labels}} or rule["ports"]
        assert "ipBlock" not in source
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert all("169.254.169.254/32" in block["except"] for block in blocks)


def test_the_head_outlives_the_drain_of_its_driver() -> None:
    """Ray gives a job 3 s from SIGTERM to SIGKILL unless told otherwise; the pod must last longer still."""
    head = PODS["head"]["spec"]
    [container] = head["containers"]
    wait = {setting["name"]: setting["value"] for setting in container["env"]}["RAY_JOB_STOP_WAIT_TIME_S"]
    assert 60 < int(wait) < head["terminationGracePeriodSeconds"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert Path(command[1]).parent == Path("/etc/embedpipe")
    ast.parse(DOCUMENTS["ConfigMap"]["data"][Path(command[1]).name])


def test_a_lost_job_ends_and_is_paid_for_no_longer() -> None:
    assert JOB["shutdownAfterJobFinishes"] is True
    assert 0 < JOB["ttlSecondsAfterFinished"] <= 3600
    assert JOB["preRunningDeadlineSeconds"] < JOB["activeDeadlineSeconds"]
    assert 0 < JOB["backoffLimit"] <= 3


def test_gpu_workers_are_spot_and_as_many_as_the_run_will_find() -> None:
    """The pool is sized once, from the GPUs that are there."""
    assert WORKERS["replicas"] == WORKERS["minReplicas"] == WORKERS["maxReplicas"]
    pod = PODS["workers"]["spec"]
    assert {"nvidia.com/gpu"} <= {toleration["key"] for toleration in pod["tolerations"]}
    assert any(toleration.get("value") == "spot" for toleration in pod["tolerations"])
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
