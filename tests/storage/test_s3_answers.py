"""Answers of S3 that are well-formed and lead nowhere: listings without an end, and objects it can't delete just now."""

import pytest

from pipeline.errors import StorageError, TransientStorageError
from pipeline.storage.open import open_store
from pipeline.storage.probe import can_delete
from pipeline.storage.store import Store

from .conftest import Fault, FaultProxy


@pytest.fixture
def store(s3_bucket: str, proxy: FaultProxy) -> Store:
    return open_store(f"{s3_bucket}/out")


def page(token: str) -> str:
    """A listing that goes on."""
    found = "<Contents><Key>out/a</Key><ETag>x</ETag><Size>1</Size></Contents>"
    return f"answer <ListBucketResult><IsTruncated>true</IsTruncated>{token}{found}</ListBucketResult>"


NO_TOKEN = page("")
SAME_TOKEN = page("<NextContinuationToken>t</NextContinuationToken>")


@pytest.mark.parametrize("token", ["", "<NextContinuationToken></NextContinuationToken>"])
def test_a_page_that_does_not_say_how_to_go_on_is_asked_for_again(store: Store, proxy: FaultProxy, token: str) -> None:
    """A KeyError would be a bug of ours; and taken for the last page, it would hide whatever comes after it."""
    store.put_new("b", b"x")
    proxy.faults = [Fault("GET", page(token), times=2)]
    assert [entry.key for entry in store.list("")] == ["b"], "nothing of an answer that is asked for again"
    proxy.faults = [Fault("GET", page(token), times=1000)]
    with pytest.raises(
        TransientStorageError, match=r"listing s3://.*/out/.*NextContinuationToken, found none\. Run again"
    ):
        list(store.list(""))


def test_a_listing_that_leads_back_to_itself_has_an_end(store: Store, proxy: FaultProxy) -> None:
    """With the same token for ever a run would list for ever."""
    proxy.faults = [Fault("GET", SAME_TOKEN, times=1000)]
    with pytest.raises(TransientStorageError, match="found that of an answer before it") as told:
        list(store.list(""))
    assert told.value.exit_code == 4
    assert proxy.count("GET") == 13  # the first page, and twelve tries at the second


def test_a_listing_in_a_circle_has_an_end(store: Store, proxy: FaultProxy) -> None:
    """As of a gateway before two stores."""
    tokens = [f"<NextContinuationToken>{name}</NextContinuationToken>" for name in "abc"]
    proxy.faults = [*(Fault("GET", page(token)) for token in tokens), Fault("GET", page(tokens[0]), times=1000)]
    with pytest.raises(TransientStorageError, match="found that of an answer before it"):
        list(store.list(""))


def undeleted(*codes: str) -> str:
    """The answer to a batch, which is 200."""
    errors = (f"<Error><Key>k</Key><Code>{code}</Code><Message>no</Message></Error>" for code in codes)
    return f"answer <DeleteResult>{''.join(errors)}</DeleteResult>"


@pytest.mark.parametrize(
    "code", ["InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException"]
)
def test_objects_that_are_not_deleted_just_now_are_deleted_later(store: Store, proxy: FaultProxy, code: str) -> None:
    """Taken for a refusal it says for good that this account may not delete, and no `_SUCCESS` is written."""
    store.put_new("a", b"x")
    proxy.faults = [Fault("POST", undeleted(code), times=2)]
    store.delete(["a"])
    assert store.get("a") is None
    proxy.faults = [Fault("POST", undeleted(code), times=2)]
    assert can_delete(store)
    proxy.faults = [Fault("POST", undeleted(code), times=1000)]
    with pytest.raises(
        TransientStorageError, match=rf"first 'k' \({code}: no\); the store was slow or away, run again"
    ):
        can_delete(store)


def test_a_refusal_among_objects_that_are_not_deleted_just_now_is_one(store: Store, proxy: FaultProxy) -> None:
    """To ask again helps nothing, and what is missing is told."""
    proxy.faults = [Fault("POST", undeleted("SlowDown", "AccessDenied"), times=1000)]
    with pytest.raises(StorageError, match=r"deleting 2 of 1 .*AccessDenied.*s3:DeleteObject") as refused:
        store.delete(["a"])
    assert not refused.value.retry
    assert proxy.count("POST") == 1
    assert not can_delete(store)
