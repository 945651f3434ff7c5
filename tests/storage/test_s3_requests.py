"""What goes over the wire to S3, and what comes of answers that go wrong."""

import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, StorageError, TransientStorageError
from pipeline.storage.arrow import arrow_filesystem
from pipeline.storage.create import create, create_file
from pipeline.storage.inputs import find
from pipeline.storage.open import open_store
from pipeline.storage.pinned import open_stored
from pipeline.storage.probe import can_delete, probe
from pipeline.storage.store import Store

from .conftest import Fault, FaultProxy


@pytest.fixture
def store(s3_bucket: str, proxy: FaultProxy) -> Store:
    return open_store(f"{s3_bucket}/out")


def test_put_new_is_one_conditional_request(store: Store, proxy: FaultProxy) -> None:
    assert store.put_new("a", b"x")
    assert not store.put_new("a", b"y")
    assert [(request.method, request.headers.get("if-none-match")) for request in proxy.seen] == [("PUT", "*")] * 2


def test_even_a_big_body_is_one_conditional_request(store: Store, proxy: FaultProxy) -> None:
    """A multipart upload is checked only when it is completed, and by some stores not at all."""
    proxy.faults = [Fault("PUT", "swallowed")]
    size = 200 * 1024 * 1024
    assert store.put_new("big", bytes(size))
    [request] = proxy.seen
    assert (request.method, request.length, request.headers["if-none-match"]) == ("PUT", size, "*")
    assert "uploadId" not in request.path


def test_a_read_is_one_request(store: Store, proxy: FaultProxy) -> None:
    """s3fs would look the object up first: twice the latency for each of many small records."""
    store.put_new("a", b"x")
    proxy.seen.clear()
    assert store.get("a") == b"x"
    assert [request.method for request in proxy.seen] == ["GET"]


def test_an_empty_listing_is_one_request(store: Store, proxy: FaultProxy) -> None:
    assert list(store.list("nothing/")) == []
    assert [request.method for request in proxy.seen] == ["GET"]


@pytest.mark.parametrize("answer", ["503 SlowDown", "500 InternalError", "400 RequestTimeout"])
def test_put_new_is_not_repeated_by_anybody_but_create(store: Store, proxy: FaultProxy, answer: str) -> None:
    """A repetition inside a client would be told 'exists' of its own first request."""
    proxy.faults = [Fault("PUT", answer)]
    with pytest.raises(TransientStorageError, match="out/a"):
        store.put_new("a", b"x")
    assert proxy.count("PUT") == 1


def test_a_lost_reply_to_put_new_is_no_success(store: Store, proxy: FaultProxy) -> None:
    """aiohttp sends a PUT once more when the connection broke, and meets the first one: only reading back tells."""
    proxy.faults = [Fault("PUT", "lost", times=2)]
    with pytest.raises(TransientStorageError, match="out/a"):
        store.put_new("a", b"x")
    assert not store.put_new("a", b"x")
    assert create(store, "a", b"x").ours


@pytest.mark.parametrize("answer", ["503 SlowDown", "lost", "409 ConditionalRequestConflict", "412 PreconditionFailed"])
def test_create_ends_well_after_a_bad_answer(store: Store, proxy: FaultProxy, answer: str) -> None:
    """Of these only the lost one was stored; all must end as ours."""
    proxy.faults = [Fault("PUT", answer)]
    assert create(store, "a", b"ours").ours
    assert store.get("a") == b"ours"
    proxy.faults = [Fault("PUT", answer)]
    create_file(store, "b", b"file")
    assert store.get("b") == b"file"


@pytest.mark.parametrize("answer", ["503 SlowDown", "500 InternalError", "lost", "truncated"])
def test_reads_and_listings_outlive_bad_answers(store: Store, proxy: FaultProxy, answer: str) -> None:
    """A truncated body is the one kind of answer that botocore itself never repeats."""
    store.put_new("a", b"0123456789" * 1000)
    proxy.faults = [Fault("GET", answer, times=2)]
    assert store.get("a") == b"0123456789" * 1000
    proxy.faults = [Fault("GET", answer, times=2)]
    assert [entry.key for entry in store.list("")] == ["a"]


def test_heads_overwrites_and_deletes_outlive_bad_answers(store: Store, proxy: FaultProxy) -> None:
    proxy.faults = [Fault(method, "503 SlowDown", times=2) for method in ("PUT", "HEAD", "POST")]
    store.put("_SUCCESS", b"1")
    assert store.size("_SUCCESS") == 1
    store.delete(["_SUCCESS"])
    assert store.get("_SUCCESS") is None


@pytest.mark.parametrize("times", [1, 1000])
@pytest.mark.parametrize("value", [b"0123456789", b""])
def test_what_a_refused_head_would_have_told_is_asked_by_get(
    store: Store, proxy: FaultProxy, value: bytes, times: int
) -> None:
    """A HEAD has no body, so a store's 400 'RequestTimeout' and a refusal look alike; and some gateways refuse them all."""
    store.put_new("a", value)
    proxy.faults = [Fault("HEAD", "400 RequestTimeout", times=times)]
    assert store.size("a") == len(value)
    assert proxy.count("HEAD") <= 2  # botocore asks once for the region
    assert store.size("b") is None


def test_a_store_that_stays_away_ends_as_a_transient_error(store: Store, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("GET", "503 SlowDown", times=1000)]
    with pytest.raises(TransientStorageError, match="SlowDown, HTTP 503"):
        store.get("a")
    assert proxy.count("GET") == 12


@pytest.mark.parametrize("answer", ["403 AccessDenied", "400 ExpiredToken", "403 SignatureDoesNotMatch"])
def test_a_refusal_is_not_repeated(store: Store, proxy: FaultProxy, answer: str) -> None:
    proxy.faults = [Fault("GET", answer, times=1000)]
    with pytest.raises(StorageError, match=answer.split()[1]) as caught:
        store.get("a")
    assert not caught.value.retry
    assert proxy.count("GET") == 1


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        ("400 ExpiredToken", "the credentials have expired; renew them"),
        ("403 ExpiredToken", "the credentials have expired; renew them"),
        ("403 RequestTimeTooSkewed", "clock"),
        ("403 SignatureDoesNotMatch", "credentials are missing or wrong"),
    ],
)
def test_a_refusal_says_what_to_do_whatever_was_asked(
    store: Store, proxy: FaultProxy, answer: str, advice: str
) -> None:
    """The answer to a HEAD has no body that could say why."""
    proxy.faults = [Fault(method, answer, times=1000) for method in ("GET", "HEAD", "PUT", "POST")]
    for action in (
        lambda: store.get("a"),
        lambda: store.size("a"),
        lambda: store.put_new("a", b""),
        lambda: store.put("a", b""),
        lambda: store.delete(["a"]),
        lambda: list(store.list("")),
        lambda: find(f"{store.root}/a"),
    ):
        with pytest.raises(StorageError, match=advice):
            action()


def test_a_flipped_bit_is_noticed_in_what_is_read_whole_and_by_parts(store: Store, proxy: FaultProxy) -> None:
    """Nothing but TCP's 16 bits would stand between a damaged record, part or text and the result."""
    store.put_new("a", b"0123456789" * 1000)
    proxy.seen.clear()
    proxy.faults = [Fault("GET", "flipped", times=2)]
    assert store.get("a") == b"0123456789" * 1000
    assert proxy.count("GET") == 3  # the third has the MD5 that is its ETag
    proxy.seen.clear()
    proxy.faults = [Fault("GET", "flipped", times=2)]
    assert store.get_range("a", 10, 20) == b"0123456789" * 2
    assert proxy.count("GET") == 4  # the third and the fourth are the same
    proxy.faults = [Fault("GET", "flipped", times=1000)]
    with pytest.raises(TransientStorageError, match="damages"):
        store.get("a")


def test_an_object_whose_etag_is_no_md5_is_read(store: Store, proxy: FaultProxy, s3_bucket: str) -> None:
    """As of a multi-part upload, or with a key of one's own: over plain HTTP a second answer vouches for the first."""
    import boto3

    client, bucket = boto3.client("s3"), s3_bucket.removeprefix("s3://")
    upload = client.create_multipart_upload(Bucket=bucket, Key="out/a")["UploadId"]
    place = {"Bucket": bucket, "Key": "out/a", "UploadId": upload}
    part = client.upload_part(**place, PartNumber=1, Body=b"1234567890")
    client.complete_multipart_upload(**place, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    proxy.seen.clear()
    assert store.get("a") == b"1234567890"
    assert proxy.count("GET") == 2
    proxy.faults = [Fault("GET", "flipped")]
    assert store.get("a") == b"1234567890"


def test_what_is_put_carries_its_md5(store: Store, proxy: FaultProxy) -> None:
    """So that the store refuses what was damaged on its way, before it stands under its name for good."""
    store.put_new("a", b"x")
    store.put("b", b"x")
    assert [request.headers["content-md5"] for request in proxy.seen] == ["ndTkYSaMgDT1yFZOFVxnpg=="] * 2
    proxy.faults = [Fault("PUT", "400 BadDigest")]
    assert create(store, "c", b"ours").ours


def test_a_file_of_the_output_is_read_by_parts_with_the_stores_own_errors(root: str, proxy: FaultProxy) -> None:
    value = bytes(range(256)) * 4000
    store = open_store(root)
    store.put_new("a", value)
    proxy.faults = [Fault("GET", "503 SlowDown"), Fault("HEAD", "500 InternalError"), Fault("GET", "truncated")]
    file = open_stored(store, "a")
    assert file is not None
    with file:
        file.seek(-10, 2)
        assert file.read() == value[-10:]
        file.seek(1000)
        assert file.read(500_000) == value[1000:501_000]
    assert open_stored(store, "none") is None


def test_datasets_outlive_bad_answers(store: Store, proxy: FaultProxy) -> None:
    """Their readers make requests of their own, and s3fs by itself repeats neither a 500 nor what is refused of a HEAD."""
    store.put_new("a", b"0123456789" * 1000)
    filesystem, prefix = arrow_filesystem(store.root)
    for answer in ("500 InternalError", "503 SlowDown", "truncated"):
        proxy.faults = [Fault("HEAD", answer), Fault("GET", answer)]
        with filesystem.open_input_file(f"{prefix}/a") as file:
            assert file.read() == b"0123456789" * 1000


def test_an_object_that_could_not_be_deleted_is_an_error(store: Store, proxy: FaultProxy) -> None:
    """The answer to a batch is 200 even when nothing in it was deleted."""
    proxy.faults = [Fault("POST", "undeletable", times=2)]
    with pytest.raises(StorageError, match="s3:DeleteObject"):
        store.delete(["a"])
    assert not can_delete(store)
    assert can_delete(store)


def test_a_missing_bucket_is_an_error_and_not_an_absent_key(s3_environment: str) -> None:
    """Else a mistyped bucket would look like an empty output."""
    store = open_store("s3://no-such-bucket-here/out")
    for action in (lambda: store.get("a"), lambda: store.put_new("a", b""), lambda: list(store.list(""))):
        with pytest.raises(StorageError, match="no such bucket"):
            action()


def test_the_probe_passes_on_a_good_store_and_leaves_nothing(root: str) -> None:
    store = open_store(root)
    probe(store)
    assert can_delete(store)
    assert list(store.list("")) == []


def test_the_probe_refuses_a_store_without_conditional_writes(store: Store, proxy: FaultProxy) -> None:
    """Such stores answer 200 to all, and every racer believes it won."""
    proxy.faults = [Fault("PUT", "unconditional", times=1000)]
    with pytest.raises(StorageError, match=r"8 won.*If-None-Match"):
        probe(store)
    proxy.faults = []
    assert list(store.list("")) == []


def test_the_probe_refuses_credentials_that_may_not_list(store: Store, proxy: FaultProxy) -> None:
    """Without list permission a missing key reads as forbidden, and nothing could ever be known to be absent."""
    proxy.faults = [Fault("GET", "403 AccessDenied", times=1000)]
    with pytest.raises(StorageError, match=r"can't be told.*s3:ListBucket"):
        probe(store)


def test_the_probe_works_without_the_right_to_delete(store: Store, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("POST", "undeletable", times=1000)]
    probe(store)
    assert len(list(store.list("_embedpipe/probe/"))) == 1


def test_errors_never_show_the_secret(store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some stores repeat the access key in their error message."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "as the test wants it")
    proxy.faults = [Fault("GET", "403 AccessDenied")]
    with pytest.raises(StorageError) as caught:
        store.get("a")
    assert "as the test wants it" not in str(caught.value)
    assert "***" in str(caught.value)


def test_errors_never_show_the_token_of_a_profile(
    s3_bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no variable of the environment, and a store says in its refusal what it was sent."""
    profile = tmp_path / "credentials"
    profile.write_text(
        "[night]\naws_access_key_id = AKIANIGHT\naws_secret_access_key = s3cr3t-k3y\naws_session_token = t0k3n/of/the=night\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_PROFILE", "night")
    store = open_store(f"{s3_bucket}/out")
    proxy.faults = [Fault("GET", "403 AccessDenied_t0k3n/of/the=night", times=9)]
    with pytest.raises(StorageError) as caught:
        store.get("a")
    assert proxy.seen[-1].headers["x-amz-security-token"] == "t0k3n/of/the=night"
    assert "t0k3n" not in str(caught.value)
    assert "AccessDenied_***" in str(caught.value)


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "gcs"), ("az", "azure")])
def test_a_missing_package_is_named(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'embedpipe\[{extra}\]'"):
        open_store(f"{scheme}://bucket/out")
