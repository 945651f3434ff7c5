"""S3 and what speaks its protocol, through s3fs. Endpoint, region and credentials come from the standard AWS settings.

Requests are spelled out instead of left to s3fs's file operations: those ask twice for what one request tells, keep
quiet about objects that could not be deleted, and understand parts of a key as something else.
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any

import s3fs
from fsspec.asyn import sync

from pipeline.errors import StorageError, TransientStorageError
from pipeline.storage.aws_settings import check_client, mistakes_named
from pipeline.storage.direct import DirectSession
from pipeline.storage.environment import keep_secret, redact
from pipeline.storage.faults import client_errors, translate, translated
from pipeline.storage.object import Stat
from pipeline.storage.retry import TRANSIENT_CODES, http_answer, retry

DELETE_BATCH = 1000  # keys; the protocol's limit
CONNECTIONS = 64
CONNECT_SECONDS = 5
READ_SECONDS = 60  # without a single byte

READINGS = 8
"""Of an object whose bytes nothing vouches for, until two are the same. Not many: with each one chance gets likelier to damage
two of them alike."""

_MD5 = re.compile("[0-9a-f]{32}")


def s3_filesystem(attempts: int) -> s3fs.S3FileSystem:
    """A client of its own that caches nothing. `attempts`: how often it asks by itself; with 1 it never repeats."""
    config: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": attempts},
        "max_pool_connections": CONNECTIONS,
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "http_session_cls": DirectSession,
    }
    if "AWS_REQUEST_CHECKSUM_CALCULATION" not in os.environ:
        # Checksums in trailers are slow on many S3-compatible stores and refused by some.
        config["request_checksum_calculation"] = "when_required"
    region = os.environ.get("AWS_REGION")  # which AWS's own platforms set, and other clients take
    if region and "AWS_DEFAULT_REGION" not in os.environ:
        config["region_name"] = region
    filesystem = _Discreet(
        config_kwargs=config, use_listings_cache=False, skip_instance_cache=True, default_cache_type="none"
    )
    filesystem.retries = attempts  # of bodies that were cut short, which botocore doesn't repeat
    return filesystem


class _Discreet(s3fs.S3FileSystem):  # type: ignore[misc]
    """s3fs's own, whose credentials no text of this process shows, wherever botocore has found them: a profile, a role."""

    async def set_session(self, *arguments: Any, **options: Any) -> Any:
        """Comes before every request, as does the look at the credentials here: a role's are renewed now and then."""
        with mistakes_named():
            client = await super().set_session(*arguments, **options)
            check_client(client.meta.endpoint_url, self.session.get_config_variable("ca_bundle"))
            credentials = await self.session.get_credentials()
            used = await credentials.get_frozen_credentials() if credentials is not None else None
        if used is not None:
            keep_secret(used.secret_key)
            keep_secret(used.token or "")
        return client


class S3Objects:
    """See `object.Objects`."""

    def __init__(self) -> None:
        self._fs = s3_filesystem(attempts=1)

    def head(self, path: str) -> Stat | None:
        try:
            found = retry(partial(self._ask, "head_object", "looking at", path, absent=(404,)))
        except TransientStorageError:
            raise
        except StorageError:
            return retry(partial(self._head_by_get, path))
        return None if found is None else Stat(path, found["ETag"].strip('"'), found["ContentLength"])

    def _head_by_get(self, path: str) -> Stat | None:
        """The answer to a HEAD has no body that could say why it is refused. This one's has, or it tells what was asked for."""
        get = partial(self._ask, "get_object", "looking at", path, absent=(404,))
        try:
            response = get(Range="bytes=0-0")
        except StorageError as error:
            if http_answer(error)[0] != 416:
                raise
            response = get()  # of an empty object there is no first byte
        if response is None:
            return None
        with translated("looking at", f"s3://{path}"):
            sync(self._fs.loop, _drain, response["Body"])
        total = response.get("ContentRange", "").rpartition("/")[2] or response["ContentLength"]
        return Stat(path, response["ETag"].strip('"'), int(total))

    def read(self, path: str, start: int = 0, stop: int | None = None, etag: str | None = None) -> bytes | None:
        """See `object.Objects`. No bit of it is another than the store's, which the checksums of TCP don't vouch for:
        what neither an MD5 nor TLS has shown to be whole is asked for until two answers are the same."""
        request: dict[str, Any] = {}
        if start or stop is not None:
            request["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if etag is not None:
            request["IfMatch"] = f'"{etag}"'
        seen: set[bytes] = set()
        for _ in range(READINGS):
            answer = retry(partial(self._read_once, path, request, etag))
            if answer is None:
                return None
            data, whole = answer
            if whole:
                return data
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                return data
            seen.add(digest)
            del data, answer  # not both in memory at once
        raise TransientStorageError(
            f"reading s3://{path}: {READINGS} answers, each with other bytes; something on the way damages them"
        )

    def _read_once(self, path: str, request: Mapping[str, Any], etag: str | None) -> tuple[bytes, bool] | None:
        """The bytes, and whether they are known to be the store's."""
        absent = (404,) if etag is None else (404, 412)
        response = self._ask("get_object", "reading", path, absent=absent, **request)
        if response is None:
            return None
        with translated("reading", f"s3://{path}"):
            data: bytes = sync(self._fs.loop, _drain, response["Body"])
        if len(data) != response["ContentLength"]:
            raise TransientStorageError(
                f"reading s3://{path}: {response['ContentLength']} bytes were announced and {len(data)} came"
            )
        if etag is not None and response["ETag"].strip('"') != etag:  # some stores ignore If-Match
            return None
        md5 = _md5_of_whole(response, len(data))
        if md5 is None:
            return data, self._fs.s3.meta.endpoint_url.startswith("https://")
        return data, hashlib.md5(data, usedforsecurity=False).hexdigest() == md5

    def write(self, path: str, value: bytes, create: bool) -> bool:
        digest = hashlib.md5(value, usedforsecurity=False).digest()
        request: dict[str, Any] = {"Body": value, "ContentMD5": base64.b64encode(digest).decode()}
        if create:
            return self._ask("put_object", "writing", path, absent=(409, 412), IfNoneMatch="*", **request) is not None
        retry(partial(self._ask, "put_object", "writing", path, **request))
        return True

    def remove(self, paths: Sequence[str]) -> None:
        for first in range(0, len(paths), DELETE_BATCH):
            retry(partial(self._remove_once, paths[first : first + DELETE_BATCH]))

    def _remove_once(self, paths: Sequence[str]) -> None:
        keys = [{"Key": path.partition("/")[2]} for path in paths]
        answer = self._ask("delete_objects", "deleting", paths[0], Delete={"Objects": keys, "Quiet": True}) or {}
        errors = [error for error in answer.get("Errors", ()) if error.get("Code") != "NoSuchKey"]
        if not errors:
            return
        lasting = [error for error in errors if error.get("Code") not in TRANSIENT_CODES]
        first = (lasting or errors)[0]
        kind = StorageError if lasting else TransientStorageError
        raise kind(
            redact(
                f"deleting {len(errors)} of {len(paths)} objects in s3://{paths[0].partition('/')[0]} failed, "
                f"first {first.get('Key')!r} ({first.get('Code')}: {first.get('Message', '')}); "
                f"{'the credentials need s3:DeleteObject' if lasting else 'the store was slow or away, run again'}"
            )
        )

    def walk(self, prefix: str) -> Iterator[Stat]:
        bucket, _, key = prefix.partition("/")
        request: dict[str, Any] = {"Prefix": key}
        asked: set[str] = set()
        while True:
            page = retry(partial(self._page, prefix, request, asked))
            for found in page.get("Contents", ()):
                yield Stat(f"{bucket}/{found['Key']}", found["ETag"].strip('"'), found["Size"])
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]
            asked.add(request["ContinuationToken"])

    def _page(self, prefix: str, request: Mapping[str, Any], asked: Set[str]) -> dict[str, Any]:
        """One answer of a listing. `asked`: the tokens of those before it; one that leads back to them has no end."""
        page = self._ask("list_objects_v2", "listing", prefix, **request) or {}
        if page.get("IsTruncated"):
            token = page.get("NextContinuationToken")
            if not token or token in asked:
                found = "that of an answer before it" if token else "none"
                raise TransientStorageError(
                    f"listing s3://{prefix}: the answer says that more follows and doesn't lead there: expected a new "
                    f"NextContinuationToken, found {found}. Run again; where it stays so, the store, or what stands before it, "
                    "can't be used"
                )
        return page

    def _ask(
        self, method: str, doing: str, path: str, absent: tuple[int, ...] = (), **request: Any
    ) -> dict[str, Any] | None:
        """One request; None when the HTTP status is one of `absent`."""
        bucket, _, key = path.partition("/")
        if method not in ("list_objects_v2", "delete_objects"):
            request["Key"] = key
        try:
            response: dict[str, Any] = sync(self._fs.loop, _call, self._fs, method, {"Bucket": bucket, **request})
        except client_errors() as error:
            status, code = http_answer(error)
            if status in absent and code != "NoSuchBucket":
                return None
            raise translate(error, doing, f"s3://{path}") from error
        return response


def _md5_of_whole(response: Mapping[str, Any], length: int) -> str | None:
    """The MD5 that a whole object's body should have; None for a part of one, or where the ETag is something else."""
    total = response.get("ContentRange", "").rpartition("/")[2]
    etag = str(response["ETag"].strip('"'))
    part = total not in ("", str(length))
    encrypted = response.get("ServerSideEncryption", "AES256") != "AES256" or response.get("SSECustomerAlgorithm")
    return None if part or encrypted or not _MD5.fullmatch(etag) else etag


async def _call(filesystem: s3fs.S3FileSystem, method: str, request: dict[str, Any]) -> dict[str, Any]:
    """One request. `filesystem.call_s3` would wait after a failure even where it isn't to ask again."""
    await filesystem.set_session()
    call = getattr(await filesystem.get_s3(request["Bucket"]), method)
    response: dict[str, Any] = await call(
        **filesystem._get_s3_method_kwargs(call, **request)
    )  # adds RequestPayer & Co.
    return response


async def _drain(body: Any) -> bytes:
    """The body to its end; the connection is given up when that fails."""
    try:
        data: bytes = await body.read()
        return data
    finally:
        body.close()
