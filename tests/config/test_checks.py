"""What no type can tell: secrets in URLs, places inside each other, keys that contradict."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import check_config
from pipeline.errors import ConfigError

COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
SECRET = "hunter2hunter2"


def check(changes: dict[str, Any]) -> None:
    """A small config with dotted keys changed."""
    raw: dict[str, Any] = {
        "input": {"paths": ["in"], "text": "body"},
        "model": {"name": "./m"},
        "output": {"path": "out"},
    }
    for key, value in changes.items():
        section, _, name = key.partition(".")
        raw.setdefault(section, {})[name] = value
    check_config(raw, "job.yaml")


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        check(changes)
    return str(caught.value)


@pytest.mark.parametrize(
    "key", ["input.paths", "input.root", "model.name", "output.path", "execution.address", "execution.model_cache"]
)
@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/x",
        f"s3://key:a/b+{SECRET}@bucket/x",
        f"s3://{SECRET}@bucket/x",
        f"https://b.s3.amazonaws.com/x?X-Amz-Signature={SECRET}",
        f"https://a.blob.core.windows.net/x?sv=2024&sig={SECRET}",
        f"s3:/key:{SECRET}@bucket/x",
        f"s3:key:a/b+{SECRET}@bucket/x",
        f"gs:///{SECRET}@bucket/x",
        f"https:/user:{SECRET}@host/x",
        f"https://host/x?access_token={SECRET}",
        f"https://host/x?a=b&api_key={SECRET}",
        f"s3://bucket/x?key={SECRET}",
        f"s3://bucket/x?X-Api-Key={SECRET}",
    ],
)  # fmt: skip
def test_a_url_with_a_secret_is_refused_and_not_shown(key: str, url: str) -> None:
    """Logs, records and the dashboard of the cluster would show it for ever."""
    said = refusal({key: [url] if key == "input.paths" else url})
    assert f"{key}: holds credentials" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "changes",
    [
        {"input.paths": {"first": f"s3://key:{SECRET}@bucket/x"}},
        {"input.paths": [["s3://key:" + SECRET + "@bucket/x"]]},
        {"input.text": [f"s3://key:{SECRET}@bucket/x"]},
        {"output.mode": f"s3://key:{SECRET}@bucket/x"},
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown_either(changes: dict[str, Any]) -> None:
    """`given …` repeats what stands there."""
    assert SECRET not in refusal(changes)


@pytest.mark.parametrize(
    "path",
    [
        "s3://my@bucket",
        "in/a@b:c.txt",
        "s3://bucket/user@example.com/x",
        "s3://bucket/a:b@c",
        "s3://b/a?b=c",
        "s3://b/day=??/key=*",
        "file:///data/a:b@c",
        "/data/s3:x/y",
        "in/12:30@noon",
        "s3://b/tokens?=5/monkey=1",
    ],
)
def test_what_only_looks_like_a_secret_is_accepted_or_named(path: str) -> None:
    """An @ in a file's name is no user name; one before the bucket can be nothing else."""
    if path == "s3://my@bucket":
        assert "credentials" in refusal({"input.paths": [path]})
    else:
        check({"input.paths": [path]})


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("out", "out"),
        ("data", "data/out"),
        ("./data/../data", "data/out"),
        ("data/**", "data/out"),
        ("data/**/*.parquet", "data/out"),
        ("s3://b", "s3://b/out"),
        ("s3://b/x/", "s3a://b/x/out"),
        ("gs://b/x", "gcs://b/x/y"),
        ("s3://b/**/*.parquet", "s3://b/out"),
        ("br[1]", "br[1]/out"),
        ("s3://b/what?", "s3://b/what?/out"),
        ("file:///data", "/data/out"),
    ],
)
def test_an_output_that_the_input_covers_is_refused(source: str, output: str) -> None:
    """The second night would embed the first night's vectors."""
    assert "output.path:" in refusal({"input.paths": [source], "output.path": output})


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("out/data", "out"),
        ("out/in/*.parquet", "out"),
        ("s3://b/out/x/*.csv", "s3://b/out"),
    ],
)
def test_an_input_that_lies_in_the_output_is_refused(source: str, output: str) -> None:
    """What is below the output belongs to the collector."""
    assert "side by side" in refusal({"input.paths": [source], "output.path": output})


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("link", "real/out"),
        ("real", "link/out"),
        ("link/**/*.parquet", "real/out"),
        ("deep/../link", "real/out"),
        ("real/out/x", "link/out"),
    ],
)
def test_places_inside_each_other_are_refused_also_where_a_link_hides_it(
    tmp_path: Path, source: str, output: str
) -> None:
    """`data -> /mnt/disk/data` is how many machines are set up; each run would take the result for input, and publish more."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    said = refusal({"input.paths": [str(tmp_path / source)], "output.path": str(tmp_path / output)})
    assert "put them side by side" in said


def test_places_beside_each_other_are_fine_behind_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    check({"input.paths": [str(tmp_path / "link/in")], "output.path": str(tmp_path / "real/out")})


@pytest.mark.parametrize("key", ["input.paths", "model.name", "output.path"])
def test_azures_own_spelling_of_a_container_is_no_credential(key: str) -> None:
    url = "abfss://files@account.dfs.core.windows.net/x"
    said = refusal({key: [url] if key == "input.paths" else url})
    assert "abfss:// is spelled az://<container>/<path> here" in said
    assert "credentials" not in said


@pytest.mark.parametrize(
    ("model", "output"),
    [("./m", "m/out"), ("m/", "m"), ("s3://b/m", "s3://b/m/out"), ("./m/../n", "n/out"), ("./link", "real/m/out")],
)
def test_an_output_in_the_directory_of_the_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, output: str
) -> None:
    """What the run writes would be part of the model, which changes with it: no run would end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real" / "m").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "m")
    where = {"input.paths": ["s3://b/in"]} if output.startswith("s3:") else {}
    said = refusal({**where, "model.name": model, "output.path": output})
    assert f"output.path: {output!r} lies in the directory of the model" in said


@pytest.mark.parametrize(("model", "output"), [("./m", "m-out"), ("package:m", "m/out"), ("./out/m", "out")])
def test_an_output_beside_a_model_or_above_it_is_fine(model: str, output: str) -> None:
    check({"model.name": model, "output.path": output})


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("data", "data-out"),
        ("data/*.parquet", "data/out"),
        ("s3://b/in", "s3://b/in-embedded"),
        ("s3://a/x", "s3://b/x"),
        ("s3://b/x", "gs://b/x"),
        ("quickstart/input/*.parquet", "quickstart/out"),
    ],
)
def test_places_side_by_side_are_fine(source: str, output: str) -> None:
    check({"input.paths": [source], "output.path": output})


@pytest.mark.parametrize("key", ["execution.events", "execution.model_cache"])
@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("data", "data/x.jsonl"),
        ("data/", "data/deep/x.jsonl"),
        ("./data/../data", "data/x.jsonl"),
        ("data/**", "data/deep/x.jsonl"),
        ("real", "link/x.jsonl"),
        ("link/**", "real/deep/x.jsonl"),
        ("data/x.jsonl", "data/x.jsonl"),
    ],
)
def test_what_a_run_writes_for_itself_is_not_its_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, source: str, place: str
) -> None:
    """It would read its own events, find that they have changed meanwhile, and never end well."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert f"{key}: {place!r} lies in what input.paths covers ({source!r})" in refusal(
        {"input.paths": [source], key: place}
    )


@pytest.mark.parametrize("source", ["data/*.jsonl", "data/e*", "data/*"])
def test_events_that_a_pattern_matches_are_refused(source: str) -> None:
    assert "execution.events: 'data/events.jsonl' lies in" in refusal(
        {"input.paths": [source], "execution.events": "data/events.jsonl"}
    )


def test_a_model_cache_whose_files_a_pattern_matches_is_refused() -> None:
    """Models have .json files."""
    assert "execution.model_cache: 'data/cache' lies in" in refusal(
        {"input.paths": ["data/**/*.json"], "execution.model_cache": "data/cache"}
    )


@pytest.mark.parametrize("key", ["execution.events", "execution.model_cache"])
@pytest.mark.parametrize("place", ["out", "out/x", "out/data/x.jsonl", "./out/../out/x", "link/data/x"])
def test_what_a_run_writes_for_itself_is_no_part_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, place: str
) -> None:
    """A file that is none of the snapshot's keeps _SUCCESS away for ever."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    assert f"{key}: {place!r} lies in output.path ('out')" in refusal({key: place})


@pytest.mark.parametrize(
    "changes",
    [
        {"execution.events": "events.jsonl", "execution.model_cache": "cache"},
        {"execution.events": "out-events.jsonl", "execution.model_cache": "out-models"},
        {"input.paths": ["in/*.parquet"], "execution.events": "in/events.jsonl"},
        {"input.paths": ["s3://b/in"], "output.path": "s3://b/out", "execution.events": "b/in/events.jsonl"},
        {"execution.events": "~/events", "execution.model_cache": "a:b"},
    ],
)
def test_what_a_run_writes_for_itself_elsewhere_is_fine(changes: dict[str, Any]) -> None:
    check(changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.name": "a/b"}, "model.revision: is missing"),
        ({"model.name": "a/b", "model.revision": "main"}, "branches and tags can move"),
        ({"model.name": "a/b", "model.revision": COMMIT.upper()}, "40 characters"),
        ({"model.revision": COMMIT}, "goes with a hub id only"),
        ({"model.name": "package:x", "model.revision": COMMIT}, "goes with a hub id only"),
        ({"model.prompt": "a", "model.prompt_name": "b"}, "not both"),
        ({"output.partition_by": ["body"]}, "is the text column"),
        ({"input.id": "k", "output.partition_by": ["k"]}, "is the id column"),
        ({"output.partition_by": ["a", "a"]}, "output.partition_by: 'a' is given twice"),
        ({"input.keep": ["a", "a"]}, "input.keep: 'a' is given twice"),
        ({"input.paths": ["in", "in"]}, "input.paths: 'in' is given twice"),
        ({"output.partition_by": ["a=b"]}, "can't be the name of a folder"),
        ({"output.partition_by": ["_x"]}, "'_x' can't be the name of a folder: many readers pass over"),
        ({"output.partition_by": [".x"]}, "'.x' can't be the name of a folder: many readers pass over"),
        ({"output.partition_by": ["a b"]}, "'a b' can't be the name of a folder: some readers would see 'a%20b'"),
        ({"output.partition_by": ["É"]}, "some readers would see '%C3%89'"),
        ({"input.text": None, "input.template": "no field"}, "name a column in each pair of braces"),
        ({"input.text": None, "input.template": "{}"}, "name a column in each pair of braces"),
        ({"input.text": None, "input.template": "{title"}, "a brace that is meant as such is written twice"),
        ({"input.text": None, "input.template": "{a:>5}"}, "input.template"),
        ({"execution.engine": "serial", "execution.address": "auto"}, "leave one of them out"),
    ],
)  # fmt: skip
def test_keys_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(changes)


@pytest.mark.parametrize("paths", [["in/a", "s3://b/in"], ["s3://b/in", "gs://b/in", "file:///in"]])
def test_an_input_on_this_machine_and_elsewhere_is_refused(paths: list[str]) -> None:
    """Workers on other machines would find one half of it."""
    said = refusal({"input.paths": paths})
    local = next(path for path in paths if not path.startswith(("s3:", "gs:")))
    assert f"input.paths: {local!r} is a file of this machine, 's3://b/in' is not" in said


@pytest.mark.parametrize("paths", [["in", "file:///in", "/in/*"], ["s3://a/in", "s3a://b/in", "gs://c/in"]])
def test_several_places_of_one_kind_are_fine(paths: list[str]) -> None:
    check({"input.paths": paths})


@pytest.mark.parametrize("name", ["/m", "./m", "~/m", "s3://b/m", "package:m", "a.b/c/d"])
def test_only_a_hub_id_needs_a_revision(name: str) -> None:
    check({"model.name": name})
