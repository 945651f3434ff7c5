"""Credentials: what workers need of this process's environment, and how to keep it out of every text."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

_PASSED_ON = re.compile(r"(AWS|AZURE|CLOUDSDK|FSSPEC)_.+|GOOGLE_(APPLICATION_CREDENTIALS|CLOUD_PROJECT)")
# Each machine has its own: a role or endpoint of the driver's container would mislead a worker elsewhere.
_MACHINE_BOUND = re.compile(r"AWS_(CONTAINER|EXECUTION|LAMBDA|ECS)_.+")
_FILES = frozenset(
    {
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AZURE_FEDERATED_TOKEN_FILE",
        "CLOUDSDK_CONFIG",
        "GOOGLE_APPLICATION_CREDENTIALS",
    }
)
_IDENTITIES = tuple(
    re.compile(names)
    for names in (
        "AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN|CREDENTIAL_EXPIRATION)",
        "AWS_(ROLE_ARN|ROLE_SESSION_NAME|WEB_IDENTITY_TOKEN_FILE)",
        "AZURE_(TENANT_ID|CLIENT_.+|FEDERATED_TOKEN_FILE)",
        "AZURE_STORAGE_(TENANT_ID|CLIENT_ID|CLIENT_SECRET)",
    )
)
"""Settings that only together say who asks: one's key with another's token is refused. A storage account's key, its SAS token
and its connection string each do alone, as does a file of Google's."""

_SECRET_NAME = re.compile(
    r"SECRET|TOKEN(?!IZERS)|PASSWORD|PASSPHRASE|CONNECTION_STRING|(ACCESS|ACCOUNT|STORAGE|API)_KEY(?!_FILE)",
    re.IGNORECASE,
)
# Secret keys may hold slashes, so a user info with a colon may too. Slashes are forgotten, or typed once too often.
_USERINFO = re.compile(
    r"(://|\b(?:s3[an]?|gcs?|gs|az|adl|abfss?|wasbs?|oss|https?|s?ftps?|ssh|(?:web)?hdfs):/*)"
    r"(?![a-z0-9-]{3,63}@[a-z0-9]+\.(?:dfs|blob)\.core\.)"  # Azure's own spelling of a container
    r"(?:[^/\s:'\"]*:[^\s@'\"]*|[^/\s@'\"]*)@",
    re.IGNORECASE,
)
_SIGNED_QUERY = re.compile(
    r"[?;][^\s'\"<>]*(?:x-amz-|x-goog-|signature|(?:access|account|api)[-_]?key|googleaccessid|sig=|(?<=[?;&])key=|token|"
    r"passw(?:or)?d|secret|credential)[^\s'\"<>]*",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 6  # characters; a shorter value ("true", "none") would black out ordinary words
HIDDEN = "***"

_kept: set[str] = set()


class WorkerEnvironment(dict[str, str]):
    """Environment variables whose values no log shows."""

    def __repr__(self) -> str:
        return f"WorkerEnvironment({', '.join(sorted(self))})"

    __str__ = __repr__


def worker_environment(environment: Mapping[str, str] | None = None) -> WorkerEnvironment:
    """The storage settings of `environment` (default: this process's) that a worker on another machine needs."""
    source = os.environ if environment is None else environment
    return WorkerEnvironment(
        {
            name: value
            for name, value in source.items()
            if _PASSED_ON.fullmatch(name) and not _MACHINE_BOUND.fullmatch(name)
        }
    )


def apply_environment(settings: Mapping[str, str]) -> None:
    """Take over what isn't set here already; a setting that names a file only where that file is, and what makes up an identity
    only where this process has no other."""
    others = [identity for identity in _IDENTITIES if _has_another(identity, settings)]
    for name, value in settings.items():
        if name in os.environ or any(identity.fullmatch(name) for identity in others):
            continue
        if name not in _FILES or Path(value).exists():
            os.environ[name] = value


def _has_another(identity: re.Pattern[str], settings: Mapping[str, str]) -> bool:
    """Whether any of it is set here to something else; what is the same may have been taken over before."""
    own = {name: value for name, value in os.environ.items() if value and identity.fullmatch(name)}
    return not own.items() <= settings.items()


def keep_secret(value: str) -> None:
    """From now on `redact` knows this value, which isn't in the environment: a key or token of a profile or a role."""
    if len(value) >= _SHORTEST_SECRET:
        _kept.add(value)


def redact(text: str) -> str:
    """`text` without user info and signatures in URLs, without any value of a secret environment variable, and without what
    `keep_secret` was told."""
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _SIGNED_QUERY.sub(f"?{HIDDEN}", text)
    secrets = {
        value for name, value in os.environ.items() if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name)
    }
    secrets |= _kept
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text
