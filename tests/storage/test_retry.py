"""What is asked again, how often and when."""

import errno
from collections.abc import Callable

import aiohttp
import botocore.exceptions as boto
import pytest

from pipeline.errors import StorageError, TransientStorageError
from pipeline.storage.faults import translate
from pipeline.storage.retry import LONGEST_PAUSE_SECONDS, is_transient, pauses, retry


def answer(status: int, code: str) -> Exception:
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(response, "GetObject")  # type: ignore[arg-type]


def wrapped(error: Exception, cause: Exception) -> Exception:
    """As s3fs raises."""
    error.__cause__ = cause
    return error


class HttpError(Exception):
    """As gcsfs raises."""

    code = 503


@pytest.mark.parametrize(
    "error",
    [
        answer(503, "SlowDown"),
        answer(500, "InternalError"),
        answer(429, "TooManyRequests"),
        answer(400, "RequestTimeout"),
        wrapped(OSError(errno.EBUSY, "slow"), answer(503, "SlowDown")),
        boto.EndpointConnectionError(endpoint_url="x"),
        boto.ReadTimeoutError(endpoint_url="x"),
        boto.ConnectionClosedError(endpoint_url="x"),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        wrapped(aiohttp.ClientPayloadError("cut"), aiohttp.http_exceptions.ContentLengthError("cut")),
        aiohttp.ServerDisconnectedError(),
        HttpError(),
        TimeoutError(),
        ConnectionResetError(),
        OSError(errno.ESTALE, "stale"),
    ],
    ids=repr,
)
def test_no_answer_or_one_that_says_later_is_transient(error: Exception) -> None:
    assert is_transient(error)
    assert isinstance(translate(error, "reading", "s3://b/k"), TransientStorageError)


@pytest.mark.parametrize(
    "error",
    [
        answer(403, "AccessDenied"),
        answer(400, "ExpiredToken"),
        answer(404, "NoSuchBucket"),
        answer(501, "NotImplemented"),
        wrapped(PermissionError("no"), answer(403, "AccessDenied")),
        boto.NoCredentialsError(),
        boto.ParamValidationError(report="bad bucket"),
        OSError(errno.ENOSPC, "full"),
        PermissionError(errno.EACCES, "no"),
    ],
    ids=repr,
)
def test_a_refusal_is_final_and_says_what_to_do(error: Exception) -> None:
    assert not is_transient(error)
    translated = translate(error, "reading", "s3://b/k")
    assert type(translated) is StorageError
    assert "reading s3://b/k: " in translated.message


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    return action


def test_an_action_is_tried_until_it_works() -> None:
    waited: list[float] = []
    assert retry(failing(3, TransientStorageError("x")), sleep=waited.append, draw=lambda: 1.0) == "done"
    assert waited == [0.25, 0.5, 1.0]


def test_a_store_that_is_away_for_half_a_minute_is_outlived() -> None:
    """As one is that is started anew; a job that gives up then stands still until the morning."""
    clock = [0.0]

    def wait(seconds: float) -> None:
        clock[0] += seconds

    def ask() -> str:
        if clock[0] < 30:
            raise TransientStorageError("away")
        return "there"

    assert retry(ask, sleep=wait, draw=lambda: 0.5) == "there"


def test_the_last_error_is_raised_after_the_last_try() -> None:
    waited: list[float] = []
    with pytest.raises(TransientStorageError, match="x"):
        retry(failing(4, TransientStorageError("x")), attempts=4, sleep=waited.append)
    assert len(waited) == 3


def test_a_refusal_is_not_tried_again() -> None:
    with pytest.raises(StorageError):
        retry(failing(1, StorageError("x")), sleep=lambda seconds: pytest.fail("waited"))


def test_pauses_are_drawn_evenly_below_a_bound_that_grows_to_a_longest() -> None:
    """Workers that failed together must not come back together."""
    assert list(pauses(10, draw=lambda: 0.0)) == [0.0] * 9
    assert list(pauses(10, draw=lambda: 1.0)) == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert LONGEST_PAUSE_SECONDS == 10.0
