"""The roles of infra/iam, kept by a gate during real runs: each gets what it needs, and no more."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.jobs import ids, make_config, read_rows, write_parquet

import pipeline
from pipeline.check.verify import verify
from pipeline.commit.snapshot import read_head
from pipeline.config.schema import Config
from pipeline.errors import StorageError
from pipeline.export.snapshot import list_files
from pipeline.flow.maintenance import collect_garbage
from pipeline.spec import gate_unit
from pipeline.storage.open import open_store

from .conftest import INFRA, ROOT, Gate, statements

RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
UNIT_KINDS = ("/attempt/", "/part/", "/unit/")
POLICIES = sorted(path.stem for path in (INFRA / "iam").glob("*.json"))


@dataclass
class World:
    """Two buckets, a job, and the gate before them."""

    gate: Gate
    config: Config
    out: str
    source: Path
    direct: str  # the endpoint behind the gate

    def add(self, shard: int) -> None:
        """A shard of 20 more rows in the input bucket; put there past the gate."""
        import boto3

        write_parquet(self.source / f"{shard}.parquet", range(20 * shard, 20 * shard + 20))
        key = f"articles/{shard}.parquet"
        boto3.client("s3", endpoint_url=self.direct).upload_file(
            str(self.source / f"{shard}.parquet"), self.gate.buckets["my-input"], key
        )


@pytest.fixture
def world(moto_endpoint: str, gate: Gate, tmp_path: Path, tiny_model: str) -> World:
    import boto3

    gate.buckets = {name: f"{name}-{uuid.uuid4().hex[:12]}" for name in ("my-input", "my-output")}
    for bucket in gate.buckets.values():
        boto3.client("s3", endpoint_url=moto_endpoint).create_bucket(Bucket=bucket)
    out = f"s3://{gate.buckets['my-output']}/embeddings/articles"
    source = f"s3://{gate.buckets['my-input']}/articles/"
    made = World(gate, make_config(source, out, tiny_model, units__rows=16), out, tmp_path, moto_endpoint)
    made.add(0)
    return made


@pytest.mark.parametrize("name", POLICIES)
def test_policies_name_single_actions_on_folders_of_two_buckets(name: str) -> None:
    text = (INFRA / "iam" / f"{name}.json").read_text()
    assert json.loads(text)["Version"] == "2012-10-17"
    for statement in statements(name):
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert statement["Effect"] == "Allow"
        assert statement["Sid"].isalnum(), "IAM takes letters and digits only"
        assert all(action.startswith("s3:") and "*" not in action for action in statement["Action"])
        listing = statement["Action"] == ["s3:ListBucket"]
        for arn in statement["Resource"]:
            assert arn.startswith(("arn:aws:s3:::my-input", "arn:aws:s3:::my-output"))
            assert ("/" not in arn) if listing else ("/" in arn and not arn.split("/")[1].startswith("*"))


@pytest.mark.parametrize("name", ["writer", "reader"])
def test_only_the_collector_and_the_mark_may_delete(name: str) -> None:
    assert not [action for s in statements(name) for action in s["Action"] if "Delete" in action]


def test_listing_has_no_prefix_condition() -> None:
    """With one, S3 answers 403 for a missing key, since a GET carries no prefix: the probe would refuse the store."""
    for name in POLICIES:
        assert not [s for s in statements(name) if "s3:ListBucket" in s["Action"] and "Condition" in s]


def test_a_writer_without_delete_ends_done_and_says_what_it_left(world: World) -> None:
    """A compromised or mistaken job can then neither empty the table nor overwrite a committed object."""
    world.gate.play("writer")
    summary = pipeline.run(world.config)
    assert (summary.state, summary.exit_code) == ("done", 0)
    assert any("nothing was collected, and _SUCCESS is not written" in message for message in summary.messages)
    assert sorted(read_rows(world.out)) == ids(range(20))
    assert open_store(world.out).get("_SUCCESS") is None
    assert world.gate.actions(world.gate.refused) == {"s3:DeleteObject"}
    assert all(access.conditional for access in world.gate.seen if access.action == "s3:PutObject")
    used = world.gate.actions(world.gate.seen) - world.gate.actions(world.gate.refused)
    assert used == {action for s in statements("writer") for action in s["Action"]}, "and no more than it needs"


def test_writer_and_collector_take_turns(world: World) -> None:
    """A `_SUCCESS` in this regime would block the next writer, which may not remove it: neither role can write one."""
    world.gate.play("writer")
    pipeline.run(world.config)
    world.gate.play("collector")
    assert collect_garbage(world.out, dry_run=False)
    assert "s3:DeleteObject" not in world.gate.actions(world.gate.refused)
    world.gate.play("writer")
    assert not pipeline.run(world.config).published, "with nothing new and nothing to collect"
    assert open_store(world.out).get("_SUCCESS") is None
    world.add(1)
    assert pipeline.run(world.config).exit_code == 0
    assert sorted(read_rows(world.out)) == ids(range(40))


def test_one_role_with_all_three_policies_is_refused_nothing_and_leaves_the_mark(world: World) -> None:
    """And a unit costs the requests that the runbook says: nobody looks at that bill before it comes."""
    world.gate.play("writer", "collector", "mark")
    summary = pipeline.run(world.config)
    assert summary.messages == ()
    head = read_head(open_store(world.out))
    assert head is not None
    gate = gate_unit(head.entry.spec)
    puts, gets = (
        sum(
            access.action == action
            and any(kind in access.resource for kind in UNIT_KINDS)
            and gate not in access.resource  # noted once a run, as if it were a unit
            for access in world.gate.seen
        )
        for action in ("s3:PutObject", "s3:GetObject")
    )
    assert f"{puts / summary.units:.0f} PUTs (attempt" in RUNBOOK
    assert f"{gets / summary.units:.0f} with `input.id`" in RUNBOOK
    world.add(1)
    assert pipeline.run(world.config).published
    assert world.gate.refused == []
    assert open_store(world.out).get("_SUCCESS") is not None


def test_a_reader_lists_reads_and_verifies_but_writes_nothing(world: World) -> None:
    world.gate.play("writer")
    pipeline.run(world.config)
    world.gate.play("reader")
    assert sum(file.rows for file in list_files(world.out)) == 20
    assert sorted(read_rows(world.out)) == ids(range(20))
    assert verify(world.out, source=False).passed
    assert world.gate.refused == []
    with pytest.raises(StorageError, match="access denied"):
        open_store(world.out).put_new("data/x.parquet", b"")


def test_uploads_that_were_never_completed_go_after_a_day() -> None:
    """They are invisible in listings and are paid for until they are aborted."""
    [rule] = json.loads((INFRA / "s3" / "lifecycle.json").read_text())["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert "Expiration" not in rule, "nothing of an output goes by age"
