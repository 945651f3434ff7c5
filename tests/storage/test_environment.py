"""Credentials reach the workers and no text."""

import os
import pickle
from pathlib import Path

import pytest

from pipeline.storage.environment import WorkerEnvironment, apply_environment, redact, worker_environment


def test_workers_get_the_storage_settings_and_nothing_else() -> None:
    chosen = {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_ENDPOINT_URL": "http://x",
        "GOOGLE_APPLICATION_CREDENTIALS": "/c.json",
        "AZURE_STORAGE_ACCOUNT_NAME": "n",
        "FSSPEC_S3_ANON": "true",
    }
    others = {
        "HOME": "/root",
        "AWS_EXECUTION_ENV": "x",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2",
        "MY_TOKEN": "t",
    }
    assert worker_environment({**chosen, **others}) == chosen


def test_its_repr_hides_the_values_and_it_pickles() -> None:
    """Ray and tracebacks print what tasks are given."""
    environment = WorkerEnvironment({"AWS_SECRET_ACCESS_KEY": "hunter2hunter2"})
    for text in (repr(environment), str(environment), f"{environment}", repr([environment])):
        assert "hunter2" not in text
    assert "AWS_SECRET_ACCESS_KEY" in repr(environment)
    copy = pickle.loads(pickle.dumps(environment))
    assert copy == environment
    assert type(copy) is WorkerEnvironment


def test_what_a_worker_has_of_its_own_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = tmp_path / "credentials.json"
    there.write_text("{}")
    monkeypatch.setattr(os, "environ", {"AWS_REGION": "own"})
    apply_environment(
        {
            "AWS_REGION": "driver's",
            "AWS_ENDPOINT_URL": "http://x",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "GOOGLE_APPLICATION_CREDENTIALS": str(there),
        }
    )
    assert os.environ == {
        "AWS_REGION": "own",
        "AWS_ENDPOINT_URL": "http://x",
        "GOOGLE_APPLICATION_CREDENTIALS": str(there),
    }


KEYS = {"AWS_ACCESS_KEY_ID": "node's", "AWS_SECRET_ACCESS_KEY": "node's"}
TEMPORARY = {"AWS_ACCESS_KEY_ID": "driver's", "AWS_SECRET_ACCESS_KEY": "driver's", "AWS_SESSION_TOKEN": "driver's"}
PRINCIPAL = {"AZURE_CLIENT_ID": "driver's", "AZURE_TENANT_ID": "both's", "AZURE_CLIENT_SECRET": "driver's"}


@pytest.mark.parametrize(
    ("own", "settings", "then"),
    [
        (KEYS, TEMPORARY, KEYS),
        ({"AWS_SESSION_TOKEN": "node's"}, KEYS, {"AWS_SESSION_TOKEN": "node's"}),
        ({"AWS_ROLE_ARN": "node's"}, {"AWS_WEB_IDENTITY_TOKEN_FILE": __file__}, {"AWS_ROLE_ARN": "node's"}),
        ({"AZURE_CLIENT_ID": "node's"}, PRINCIPAL, {"AZURE_CLIENT_ID": "node's"}),
        ({"AZURE_STORAGE_CLIENT_ID": "n"}, {"AZURE_STORAGE_CLIENT_SECRET": "d"}, {"AZURE_STORAGE_CLIENT_ID": "n"}),
    ],
)
def test_a_worker_with_credentials_of_its_own_is_given_no_part_of_the_drivers(
    own: dict[str, str], settings: dict[str, str], then: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store refuses the key of one with the token of another. What is no part of an identity still comes along."""
    monkeypatch.setattr(os, "environ", dict(own))
    apply_environment({**settings, "AWS_REGION": "driver's"})
    assert os.environ == {**then, "AWS_REGION": "driver's"}


@pytest.mark.parametrize(
    ("own", "settings"),
    [
        ({}, TEMPORARY),
        ({"AWS_ROLE_ARN": "node's"}, TEMPORARY),
        ({"AZURE_TENANT_ID": "both's"}, PRINCIPAL),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "n"}, {"AZURE_STORAGE_ACCOUNT_KEY": "d"}),
    ],
)
def test_credentials_come_whole_where_a_worker_has_none_that_contradict_them(
    own: dict[str, str], settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each node is told, as the tenant or the account, isn't yet somebody else. Twice is as once: tasks share a process."""
    monkeypatch.setattr(os, "environ", dict(own))
    for _ in range(2):
        apply_environment(settings)
        assert os.environ == {**own, **settings}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://KEY:se/cret@bucket/x", "s3://***@bucket/x"),
        ("GET https://user@host/x failed", "GET https://***@host/x failed"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=ab12&X-Amz-Date=1 failed",
            "https://b.s3.amazonaws.com/k?*** failed",
        ),
        ("https://a.blob.core.windows.net/c?sv=1&sig=ab%3D", "https://a.blob.core.windows.net/c?***"),
        ("s3://bucket/what?really=yes", "s3://bucket/what?really=yes"),
        ("s3:/KEY:se/cret@bucket/x", "s3:/***@bucket/x"),
        ("'s3:KEY:secret@bucket/x': two slashes", "'s3:***@bucket/x': two slashes"),
        ("S3:secret@bucket", "S3:***@bucket"),
        ("s3:///KEY:secret@bucket/x", "s3:///***@bucket/x"),
        ("simplecache::https:/user:secret@host/x", "simplecache::https:/***@host/x"),
        ("https://host/f?api_key=secret", "https://host/f?***"),
        ("https://host/f?a=b&key=abc failed", "https://host/f?*** failed"),
        ("https://host/f?X-Api-Key=abc", "https://host/f?***"),
        ("https://host/f?passwd=abc", "https://host/f?***"),
        ("abfss://files@account.dfs.core.windows.net/x", "abfss://files@account.dfs.core.windows.net/x"),
        ("az://files@account.blob.core.windows.net/x", "az://files@account.blob.core.windows.net/x"),
        ("abfss://files:secret@account.dfs.core.windows.net/x", "abfss://***@account.dfs.core.windows.net/x"),
        ("file:///data/a:b@c", "file:///data/a:b@c"),
        (r"C:\Users:x@home and C:/Users/a:b@c", r"C:\Users:x@home and C:/Users/a:b@c"),
        ("at 12:30@noon, row 5: s3: a@b", "at 12:30@noon, row 5: s3: a@b"),
        ("s3://bucket/user@example.com/x", "s3://bucket/user@example.com/x"),
        ("is that the key? key=value", "is that the key? key=value"),
        ("write to me@example.org", "write to me@example.org"),
    ],
)
def test_urls_lose_user_info_and_signatures(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "DB_PASSWORD",
        "AZURE_STORAGE_CONNECTION_STRING",
    ],
)
def test_values_of_secret_variables_are_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hunter2hunter2")
    assert redact("it said hunter2hunter2!") == "it said ***!"


def test_ordinary_words_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsehood")
    monkeypatch.setenv("SOME_TOKEN", "no")
    assert redact("no falsehood") == "no falsehood"
