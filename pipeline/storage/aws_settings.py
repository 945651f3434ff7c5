"""AWS's standard settings where they can't be used: of mistakes in them botocore speaks as of a store that is away, or without
naming the setting. Running again mends none of them, so they are mistakes of the configuration.

Values that may hold a secret are not repeated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import ConfigError
from pipeline.storage.environment import redact

_CONFIG_FILE = "the AWS config file (~/.aws/config, or what AWS_CONFIG_FILE names)"
_CORRECT = f"correct it in the environment or in {_CONFIG_FILE}"
_SIGN_IN = "sign in on this machine, with `aws sso login` or what your profile asks for, and run again"
_ADVICE = {  # by name, so that this module imports no client library
    "ConfigNotFound": f"put it back, or correct the path of {_CONFIG_FILE}",
    "ConfigParseError": f"mend that file, or name another as {_CONFIG_FILE}",
    "InvalidConfigError": f"mend the profile in {_CONFIG_FILE}",
    "InvalidRegionError": "set AWS_REGION and AWS_DEFAULT_REGION to a region, as in us-east-1",
    "LoginTokenLoadError": _SIGN_IN,
    "PartialCredentialsError": "set an access key and its secret together, or neither",
    "ProfileNotFound": f"set AWS_PROFILE to a profile of {_CONFIG_FILE}, or unset it",
    "SSOTokenLoadError": _SIGN_IN,
    "UnknownCredentialError": f"mend the profile in {_CONFIG_FILE}",
    "InvalidChecksumConfigError": _CORRECT,
    "InvalidDefaultsMode": _CORRECT,
    "InvalidEndpointConfigurationError": _CORRECT,
    "InvalidIMDSEndpointError": _CORRECT,
    "InvalidIMDSEndpointModeError": _CORRECT,
    "InvalidProxiesConfigError": _CORRECT,
    "InvalidRetryConfigurationError": _CORRECT,
    "InvalidS3AddressingStyleError": _CORRECT,
    "InvalidS3UsEast1RegionalEndpointConfigError": _CORRECT,
    "InvalidSTSRegionalEndpointsConfigError": _CORRECT,
    "UnsupportedS3ConfigurationError": _CORRECT,
}
_BAD_ENDPOINT = (
    "the S3 endpoint (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or endpoint_url of the profile) is {found}; expected "
    "http://host:port or https://host"
)

_INVALID_ENDPOINT = "Invalid endpoint: "


@contextmanager
def mistakes_named() -> Iterator[None]:
    """What making a client and its credentials raises over a setting leaves this block as a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        said = _mistake(error)
        if said is None:
            raise
        raise ConfigError(redact(said)) from None  # what is behind it may quote an endpoint with a password in it


def check_client(endpoint: str, bundle: object) -> None:
    """Raises ConfigError for an endpoint that no request can be sent to, or a file of certificates that isn't there.

    bundle: the path of that file; None, True or False where none is named.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(_BAD_ENDPOINT.format(found=f"a URL of another kind ({parts.scheme!r})"))
    if "@" in parts.netloc:
        raise ConfigError(
            f"{_BAD_ENDPOINT.format(found='a URL with credentials in it')}; set those in the environment "
            "(AWS_ACCESS_KEY_ID, …), a profile or a role"
        )
    if parts.scheme == "https" and isinstance(bundle, str) and not Path(bundle).exists():
        raise ConfigError(
            f"{bundle}: there is no such file, but AWS_CA_BUNDLE or ca_bundle of the profile names it; put the certificates "
            "there, or correct the setting"
        )


def _mistake(error: Exception) -> str | None:
    """What is wrong with the settings; None where the error is about something else."""
    for kind in type(error).__mro__:
        if kind.__name__ in _ADVICE:
            return f"AWS settings: {str(error).strip().rstrip('.')}; {_ADVICE[kind.__name__]}"
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError) and error.filename:
        return (
            f"{error.filename}: {error.strerror}, but AWS settings (the environment, or a profile) name it; put it there, or "
            "correct the setting"
        )
    if not isinstance(error, ValueError):
        return None
    if str(error).startswith(_INVALID_ENDPOINT):
        given = str(error).removeprefix(_INVALID_ENDPOINT)
        return _BAD_ENDPOINT.format(found="not the URL of a server" if "@" in given else repr(given))
    if type(error).__name__ == "JSONDecodeError":
        return f"AWS settings: what the profile's credential_process prints is not JSON ({error}); mend that command"
    return f"AWS settings: {type(error).__name__}: {error}; {_CORRECT}"
