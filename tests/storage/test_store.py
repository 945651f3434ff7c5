"""What every store must do, on local disk and on S3."""

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, StorageError
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.open import open_store
from pipeline.storage.store import Entry, Store


@pytest.fixture
def store(root: str) -> Store:
    return open_store(root)


def test_a_missing_key_reads_as_missing(store: Store) -> None:
    """Before anything was ever written, too."""
    assert store.get("a/b") is None
    assert store.size("a/b") is None
    assert list(store.list("a/")) == []
    store.delete(["a/b"])


def test_the_first_put_new_wins_and_nothing_is_overwritten(store: Store) -> None:
    assert store.put_new("a/b", b"first")
    assert not store.put_new("a/b", b"second")
    assert store.get("a/b") == b"first"
    assert store.size("a/b") == 5


def test_put_replaces(store: Store) -> None:
    store.put("_SUCCESS", b"1")
    store.put("_SUCCESS", b"22")
    assert store.get("_SUCCESS") == b"22"


def test_an_empty_value_is_not_a_missing_one(store: Store) -> None:
    assert store.put_new("empty", b"")
    assert store.get("empty") == b""
    assert store.size("empty") == 0
    assert not store.put_new("empty", b"x")


def test_a_folder_is_not_a_key(store: Store) -> None:
    store.put_new("a/b", b"x")
    assert store.get("a/b/c") is None
    assert store.size("a/b/c") is None


@pytest.mark.parametrize(("start", "length"), [(0, 10), (3, 4), (9, 1)])
def test_ranges_are_exact(store: Store, start: int, length: int) -> None:
    store.put_new("digits", b"0123456789")
    assert store.get_range("digits", start, length) == b"0123456789"[start : start + length]


@pytest.mark.parametrize(("key", "start", "length"), [("digits", 8, 4), ("digits", 20, 1), ("gone", 0, 1)])
def test_a_range_that_is_not_there_is_an_error_and_not_short(store: Store, key: str, start: int, length: int) -> None:
    """A short answer would shift everything a reader reads after it."""
    store.put_new("digits", b"0123456789")
    with pytest.raises(StorageError, match=key):
        store.get_range(key, start, length)


def test_listings_are_sorted_complete_and_fresh(store: Store) -> None:
    keys = ["data/b.parquet", "data/a=1/x.parquet", "data/a.parquet", "data/a/b/c", "database", "other/y"]
    for key in keys:
        store.put_new(key, key.encode())
    expected = [Entry(key, len(key)) for key in sorted(keys) if key.startswith("data/")]
    assert list(store.list("data/")) == expected
    assert [entry.key for entry in store.list("")] == sorted(keys)
    store.put_new("data/0", b"")
    assert next(iter(store.list("data/"))) == Entry("data/0", 0)
    store.delete(["data/0", "data/a/b/c"])
    assert [entry.key for entry in store.list("data/")] == ["data/a.parquet", "data/a=1/x.parquet", "data/b.parquet"]


@pytest.mark.parametrize("key", ["a b", "100%", "a%20b", "ü/日本", "a?versionId=1", "a#b", "a+b&c", "[x]*", "k=v/'q'"])
def test_keys_are_taken_literally(store: Store, key: str) -> None:
    """Nothing in a key may be read as an escape, a query or a glob."""
    assert store.put_new(key, b"v")
    assert store.get(key) == b"v"
    assert [entry.key for entry in store.list("")] == [key]
    store.delete([key])
    assert store.get(key) is None


def test_many_keys_are_listed_over_pages_and_deleted_in_batches(
    root: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 deletes at most 1000 keys a request; the batch is cut down here so that the test needs few objects."""
    monkeypatch.setattr("pipeline.storage.s3.DELETE_BATCH", 3)
    keys = [f"k/{number:03}" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda key: store.put_new(key, b""), keys))
    store.delete([*keys[1:], "k/absent"])
    assert [entry.key for entry in store.list("")] == keys[:1]


def test_one_of_many_threads_wins(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda number: store.put_new("key", b"%d" % number), range(16)))
    assert sum(won) == 1
    assert store.get("key") == b"%d" % won.index(True)


def _put_from_elsewhere(pickled: bytes) -> bool:
    store: Store = pickle.loads(pickled)
    return store.put_new("from/child", b"child") and store.get("from/parent") == b"parent"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_works_in_other_processes(store: Store, method: str) -> None:
    """A client inherited by a fork would share its parent's sockets, or hang on its event loop."""
    store.put_new("from/parent", b"parent")
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(_put_from_elsewhere, (pickle.dumps(store),)).get(timeout=60)
    assert store.get("from/child") == b"child"


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has another working directory."""
    monkeypatch.chdir(tmp_path)
    assert open_store("out/./x/../y/").root == str(tmp_path / "out" / "y")


def test_the_root_of_an_object_store_has_no_slash_at_its_end(s3_environment: str) -> None:
    assert open_store("s3a://bucket/out//").root == "s3://bucket/out"
    assert open_store("s3://bucket").root == "s3://bucket"
    assert open_store("file:///tmp/x").root == "/tmp/x"


def test_a_new_endpoint_in_the_environment_is_used(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are kept by their settings: a changed setting must not meet an old client."""
    store = open_store(f"{s3_bucket}/out")
    assert store.put_new("a", b"")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match="no usable answer"):
        store.put_new("b", b"")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("s3://KEY:hunter2hunter2@bucket/out", "credentials"),
        ("s3://KEY:hunter2/hunter2@bucket/out", "credentials"),
        ("https://user:hunter2hunter2@host/out", "unknown scheme"),
        ("simplecache::s3://bucket/out", "chained"),
        ("hdfs://host/out", "unknown scheme"),
        ("abfs://files@account.dfs.core.windows.net/out", "abfs:// is spelled az://<container>/<path> here"),
        ("wasbs://key:hunter2hunter2@account/out", "wasbs:// is spelled az://<container>/<path> here"),
        ("s3:///out", "names no bucket"),
        ("s3://bucket/a//b", "empty"),
        ("s3://bucket/../b", "`..`"),
        ("file://host/out", "three slashes"),
        ("/", "root of the local disk"),
        ("", "empty path"),
    ],
)
def test_a_root_that_cannot_be_meant_is_refused_without_its_credentials(root: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_store(root)
    assert "hunter2" not in str(caught.value)


def test_a_bare_bucket_is_a_root(s3_bucket: str) -> None:
    store = open_store(s3_bucket)
    assert isinstance(store, ObjectStore)
    store.put_new("a/b", b"x")
    assert list(store.list("a/")) == [Entry("a/b", 1)]


def test_folder_markers_are_no_keys(s3_bucket: str) -> None:
    """Consoles make an empty object for a folder."""
    import boto3

    boto3.client("s3").put_object(Bucket=s3_bucket.removeprefix("s3://"), Key="out/data/", Body=b"")
    assert list(open_store(f"{s3_bucket}/out").list("data/")) == []
