"""Mistakes in AWS's standard settings: each is named with the setting, once, and as one that running again can't mend."""

import json
import logging
import os
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, StorageError
from pipeline.storage.inputs import expand
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.s3 import s3_filesystem

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret"}
HERE = {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}

SIGN_IN = """\
[default]
sso_session = s
sso_account_id = 1
sso_role_name = r
region = us-east-1
[sso-session s]
sso_region = us-east-1
sso_start_url = https://x
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("pipeline.storage.retry.FIRST_PAUSE_SECONDS", 0.0)


def set_all(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**KEYS, "AWS_ENDPOINT_URL": "localhost:9000"}, r"AWS_ENDPOINT_URL.* is 'localhost:9000'; expected http://host:port"),
        ({**KEYS, "AWS_ENDPOINT_URL_S3": "not a url"}, r"is 'not a url'; expected http://host:port"),
        ({**KEYS, "AWS_ENDPOINT_URL": "ftp://127.0.0.1:1"}, r"a URL of another kind \('ftp'\); expected http://"),
        ({**KEYS, "AWS_ENDPOINT_URL": "http://us:pw-secret@127.0.0.1:1"}, "a URL with credentials in it; .*AWS_ACCESS_KEY_ID"),
        ({**KEYS, "AWS_ENDPOINT_URL": "us:pw-secret@127.0.0.1:1"}, "is not the URL of a server; expected"),
        ({**KEYS, "AWS_ENDPOINT_URL": "https://127.0.0.1:1", "AWS_CA_BUNDLE": "/nope"}, "^/nope: .*AWS_CA_BUNDLE"),
        ({**KEYS, "AWS_DEFAULT_REGION": "us east"}, "'us east' .*set AWS_REGION and AWS_DEFAULT_REGION"),
        ({**HERE, "AWS_REQUEST_CHECKSUM_CALCULATION": "foo"}, "request_checksum_calculation.*correct it in"),
        ({"AWS_PROFILE": "nope"}, r"\(nope\) .*set AWS_PROFILE to a profile of the AWS config file"),
        ({"AWS_ACCESS_KEY_ID": "testing"}, "missing: AWS_SECRET_ACCESS_KEY; set an access key and its secret together"),
        ({"AWS_ROLE_ARN": "arn:x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nope", "AWS_REGION": "us-east-1"}, "^/nope: No such file"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_environment_is_one_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    """As a store that is away it would be asked again and again, and as a bug it would be reported."""
    set_all(monkeypatch, settings)
    with pytest.raises(ConfigError, match=said) as caught:
        ObjectStore("s3://bucket/out").get("a")
    assert "pw-secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ConfigError, match=said):  # the next one that asks in this process, too
        list(expand(["s3://bucket/in/*.jsonl"]))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[default\nbroken", "Unable to parse config file: .*; mend that file"),
        ("[default]\nregion = us-east-1\ncredential_process = /bin/echo not json\n", "credential_process prints is not JSON"),
        ("[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = nope\n", '"nope" .*mend the profile in'),
        ("[default]\nregion = us-east-1\nendpoint_url = localhost:9000\n", "endpoint_url of the profile.*'localhost:9000'"),
        (SIGN_IN, "Token for s does not exist; sign in on this machine, with `aws sso login`"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_config_file_is_one_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: str, said: str
) -> None:
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(ConfigError, match=said):
        ObjectStore("s3://bucket/out").get("a")


def test_a_sign_in_that_has_ended_is_renewed_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It ends in the middle of runs, as keys do: what is committed stays. No input is to blame for it."""
    from hashlib import sha1

    monkeypatch.setattr("botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR", str(tmp_path))
    token = {"startUrl": "https://x", "region": "us-east-1", "accessToken": "t", "expiresAt": "2020-01-01T00:00:00Z"}
    (tmp_path / f"{sha1(b's').hexdigest()}.json").write_text(json.dumps(token))
    (tmp_path / "config").write_text(SIGN_IN)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for ask in (lambda: ObjectStore("s3://bucket/out").get("a"), lambda: expand(["s3://bucket/in/a.jsonl"])):
        with pytest.raises(StorageError, match="the credentials have expired; renew them and run again"):
            ask()


def test_certificates_that_no_request_needs_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {**HERE, "AWS_CA_BUNDLE": "/nope"})
    with pytest.raises(StorageError, match="no usable answer from the store"):
        ObjectStore("s3://bucket/out").get("a")


@pytest.mark.parametrize("debug", [False, True])
def test_a_sign_in_that_fails_is_told_without_the_library_s_traceback(debug: bool) -> None:
    """botocore logs it with one, and raises it too; people would take it for a crash."""
    from io import StringIO

    from rich.console import Console

    from pipeline.cli.logs import set_up_logging

    root = logging.getLogger()
    before, shown = (root.handlers, root.level), StringIO()
    try:
        set_up_logging(Console(file=shown), debug=debug)
        try:
            raise OSError("no token")
        except OSError:
            logging.getLogger("botocore.tokens").warning("refresh attempt failed", exc_info=True)
            logging.getLogger("pipeline.x").warning("ours", exc_info=True)
    finally:
        root.handlers = before[0]
        root.setLevel(before[1])
    assert "refresh attempt failed" in shown.getvalue()
    assert shown.getvalue().count("Traceback") == (2 if debug else 1)


@pytest.mark.parametrize(
    ("settings", "region"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-north-1"}, "eu-north-1"),
    ],
)
def test_the_region_is_the_environments(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], region: str) -> None:
    """botocore passes over AWS_REGION, which containers of AWS and most other clients have."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    filesystem = s3_filesystem(attempts=1)
    filesystem.connect()
    assert filesystem.s3.meta.region_name == region
