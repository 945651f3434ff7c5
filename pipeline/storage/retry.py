"""The one place that retries requests. Those of s3fs and botocore are off, so that attempts don't multiply."""

import errno
import http.client
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pipeline.errors import TransientStorageError

T = TypeVar("T")


@dataclass(slots=True)
class Requests:
    """A sign of life: a step that waits for a slow store, try after try, does get on."""

    tried: int = 0


REQUESTS = Requests()
"""Of this process."""

ATTEMPTS = 12
"""Half a minute on average. Where a store refuses three requests in ten, one in two million is given up for good; with 8 tries
it was one in 15,000, and a night's job makes more."""

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 509})
TRANSIENT_CODES = frozenset(  # of stores that hide them behind a status like 200, 400 or 403
    {
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "XAmzContentSHA256Mismatch",
    }
)
_TRANSIENT_ERRNO = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
_TRANSIENT_NAMES = frozenset(  # by name, so that this module imports no client library
    {
        "ChecksumError",
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectionError",
        "CredentialRetrievalError",
        "FlexibleChecksumError",
        "HTTPClientError",
        "IncompleteReadError",
        "MetadataRetrievalError",
        "ResponseParserError",
        "ServiceRequestError",
        "ServiceResponseError",
    }
)


def http_answer(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and error code behind an exception of botocore, gcsfs or azure, wrapped or not; else (None, "")."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode"), str(response["Error"].get("Code", ""))
        for name in ("status_code", "status", "code"):
            value = getattr(seen, name, None)
            if isinstance(value, int):
                return value, str(getattr(seen, "error_code", None) or "")
        seen = seen.__cause__
    return None, ""


def is_transient(error: BaseException) -> bool:
    """Whether asking again can help: no answer, an answer cut short, or one that says 'later'."""
    if isinstance(error, (TransientStorageError, TimeoutError, ConnectionError, http.client.HTTPException)):
        return True
    if any(kind.__name__ in _TRANSIENT_NAMES for kind in type(error).__mro__):
        return True  # before looking for a status: aiohttp gives a body that was cut short a status of its own, 400
    status, code = http_answer(error)
    if status is not None:
        return status in _TRANSIENT_STATUS or code in TRANSIENT_CODES
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO


def pauses(attempts: int = ATTEMPTS, draw: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait between `attempts` tries: evenly drawn below a bound that doubles to a longest (full jitter)."""
    for number in range(attempts - 1):
        REQUESTS.tried += 1
        yield draw() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**number)


def retry(
    action: Callable[[], T],
    *,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[], float] = random.random,
) -> T:
    """The result of `action`, tried again after each TransientStorageError; the last one is raised."""
    for pause in pauses(attempts, draw):
        try:
            return action()
        except TransientStorageError:
            sleep(pause)
    return action()
