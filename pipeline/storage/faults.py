"""The one place that turns exceptions of the client libraries and the system into this program's own."""

import errno
import http.client
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import InputError, StorageError, TransientStorageError
from pipeline.storage.environment import redact
from pipeline.storage.retry import http_answer, is_transient

_ANSWERS = {
    401: "the credentials are missing or wrong; check the account this process runs as",
    403: "access denied: the credentials lack this permission, or have expired. Where listing isn't allowed a missing "
    "object is reported like this too: grant s3:ListBucket (or its like) on the bucket",
    404: "there is no such bucket; create it, or correct the name",
    501: "the store doesn't implement this request, which the commit protocol needs",
}
_EXPIRED = "the credentials have expired; renew them and run again, what is committed stays"
_CODES = {  # where the code says more than the status
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": "this machine's clock and the store's differ too much; set it right and run again",
    "InvalidAccessKeyId": _ANSWERS[401],
    "SignatureDoesNotMatch": _ANSWERS[401],
}
_SIGN_INS = {  # that have ended before any store was asked
    "UnauthorizedSSOTokenError": _EXPIRED,
    "TokenRetrievalError": _EXPIRED,
    "LoginRefreshRequired": _EXPIRED,
}
_NAMES = {**_SIGN_INS, "NoCredentialsError": _ANSWERS[401]}
_SYSTEM = {
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted here; on a file system without hard links choose another place",
    errno.EFBIG: "the file is larger than this file system, or the limit of this process (`ulimit -f`), allows",
    errno.EIO: "the disk, or the way to it, fails; look into the system's log (`dmesg`)",
    errno.EDQUOT: "the disk quota is used up",
    errno.ELOOP: "a link there leads round in a circle; remove it, or put back what it is to lead to",
    errno.EMFILE: "this process has too many files open; raise its limit (`ulimit -n`) and run again",
    errno.ENFILE: "this machine has too many files open; raise its limit (`sysctl fs.file-max`) and run again",
    errno.ENOMEM: "no memory left; give this process more, or run less beside it, and run again",
    errno.ENOSPC: "no space left on the disk; free some and run again",
    errno.ENOTSUP: "this file system has no hard links, which commits need; choose another place",
    errno.EROFS: "the file system is read-only",
}
_LACKED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def client_errors() -> tuple[type[BaseException], ...]:
    """What the client libraries loaded so far may raise, besides bugs."""
    # RecursionError: botocore goes after a redirect to another region, and after the next one in answer to that.
    found: list[type[BaseException]] = [OSError, http.client.HTTPException, RecursionError]
    for module, names in (
        ("botocore.exceptions", ("BotoCoreError", "ClientError", "HTTPClientError")),
        ("botocore.parsers", ("ParserError",)),
        ("aiohttp", ("ClientError",)),
        ("gcsfs.retry", ("HttpError",)),
        ("google.auth.exceptions", ("GoogleAuthError",)),
        ("azure.core.exceptions", ("AzureError",)),
    ):
        loaded = sys.modules.get(module)
        found.extend(getattr(loaded, name) for name in names if hasattr(loaded, name))
    return tuple(found)


def translate(error: BaseException, doing: str, uri: str) -> StorageError:
    """The error of the tree for one of `client_errors`. `doing`: what failed, as in 'reading'."""
    status, code = http_answer(error)
    said = f"{code or type(error).__name__}{f', HTTP {status}' if status else ''}: {error}"
    known = _SYSTEM.get(error.errno or 0) if isinstance(error, OSError) and status is None else None
    if is_transient(error):
        return TransientStorageError(redact(f"{doing} {uri}: {known or 'no usable answer from the store'} ({said})"))
    if status is not None:
        advice = _CODES.get(code) or _ANSWERS.get(status, "the store refuses the request")
    elif known is not None:
        advice = known
    elif isinstance(error, PermissionError):
        advice = _ANSWERS[403]
    else:
        advice = _NAMES.get(type(error).__name__, "the request failed for good")
    return StorageError(redact(f"{doing} {uri}: {advice} ({said})"))


@contextmanager
def translated(doing: str, uri: str) -> Iterator[None]:
    """What `client_errors` names leaves this block as an error of the tree.

    'Not there' and 'there already' pass through: they are answers.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, FileExistsError):
        raise
    except client_errors() as error:
        raise translate(error, doing, uri) from error


@contextmanager
def as_input_error() -> Iterator[None]:
    """A store's refusal leaves this block as an InputError: what is refused is an input. Not so where the fault is with the
    caller, whatever is asked for."""
    try:
        yield
    except StorageError as error:
        if is_own(error) or http_answer(error)[1] in _CODES or type(error.__cause__).__name__ in _SIGN_INS:
            raise
        raise InputError(error.message) from error


def is_own(error: StorageError) -> bool:
    """Whether an error says nothing about what was asked for: no answer came, or this process lacks handles or memory."""
    cause = error.__cause__
    return error.retry or (isinstance(cause, OSError) and cause.errno in _LACKED)
