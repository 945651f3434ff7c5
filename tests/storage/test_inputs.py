"""Finding input files, and noticing when they change."""

import os
import re
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, InputError, SourceChanged, StorageError, TransientStorageError
from pipeline.storage.inputs import expand, find, open_input

from .conftest import Fault, FaultProxy

Write = Callable[[str, bytes], str]


@pytest.fixture
def base(root: str) -> str:
    """A folder for inputs, once on local disk and once on S3."""
    return root


@pytest.fixture
def write(base: str) -> Write:
    """Writes a file below `base`; gives its uri."""

    def write(name: str, data: bytes) -> str:
        if base.startswith("s3://"):
            import boto3

            bucket, _, prefix = base.removeprefix("s3://").partition("/")
            boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data)
        else:
            path = Path(base, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return f"{base}/{name}"

    return write


NAMES = [
    "100%.txt",
    "_SUCCESS",
    ".hidden.txt",
    "_delta_log/0.json",
    "a b.txt",
    "a%20b.txt",
    "a?b.txt",
    "empty.txt",
    "x/[1].txt",
    "x/_part.txt",
    "x/y/z.txt",
    "x/y=1/p.parquet",
    "x/ü.txt",
]
VISIBLE = [name for name in NAMES if not name.startswith(("_", ".")) and "/_" not in name]


@pytest.mark.parametrize(
    ("pattern", "expected", "below"),
    [
        ("", VISIBLE, ""),
        ("/", VISIBLE, ""),
        ("/**", VISIBLE, ""),
        ("/**/*", VISIBLE, ""),
        ("/*.txt", [name for name in VISIBLE if "/" not in name], ""),
        ("/**/*.txt", [name for name in VISIBLE if name.endswith(".txt")], ""),
        ("/x", [name for name in VISIBLE if name.startswith("x/")], "/x"),
        ("/x/*.txt", ["x/[1].txt", "x/ü.txt"], "/x"),
        ("/x/*/z.txt", ["x/y/z.txt"], "/x"),
        ("/x/**/z.txt", ["x/y/z.txt"], "/x"),
        ("/*/y=*/p.parquet", ["x/y=1/p.parquet"], ""),
        ("/x/_*.txt", ["x/_part.txt"], "/x"),
        ("/x/_part.txt", ["x/_part.txt"], "/x"),
        ("/_delta_log/*", ["_delta_log/0.json"], "/_delta_log"),
        ("/_delta_log", ["_delta_log/0.json"], "/_delta_log"),
        ("/x/[1].txt", ["x/[1].txt"], "/x"),
        ("/x/[!a]1].txt", ["x/[1].txt"], "/x"),
        ("/a?b.txt", ["a?b.txt"], ""),
        ("/[a1]*.txt", ["100%.txt", "a b.txt", "a%20b.txt", "a?b.txt"], ""),
        ("/100%.txt", ["100%.txt"], ""),
    ],
)
def test_patterns_mean_what_a_shell_would_say(
    base: str, write: Write, pattern: str, expected: list[str], below: str
) -> None:
    for name in NAMES:
        write(name, b"" if name == "empty.txt" else name.encode())
    found = expand([base + pattern])
    assert [match.uri for match in found] == [f"{base}/{name}" for name in expected]
    assert {match.root for match in found} == {base + below}
    assert [match.size for match in found] == [0 if name == "empty.txt" else len(name.encode()) for name in expected]


def test_files_found_twice_are_there_once_with_the_shortest_root(base: str, write: Write) -> None:
    """The order of the patterns must not decide an id that is relative to the root."""
    write("x/a.txt", b"1")
    write("b.txt", b"2")
    for patterns in (["/x", "/**/*.txt", "/b.txt"], ["/b.txt", "/**/*.txt", "/x/*"]):
        found = expand([base + pattern for pattern in patterns])
        assert [(match.uri, match.root) for match in found] == [(f"{base}/b.txt", base), (f"{base}/x/a.txt", base)]


@pytest.mark.parametrize("pattern", ["/none.txt", "/*.csv", "/a.txt/", "/hidden", "/hidden/*"])
def test_a_pattern_that_means_nothing_is_an_error(base: str, write: Write, pattern: str) -> None:
    """Quietly embedding the other patterns would lose rows."""
    write("a.txt", b"1")
    write("hidden/_a.txt", b"1")
    with pytest.raises(InputError, match="matches no file"):
        expand([f"{base}/a.txt", base + pattern])


def test_brackets_of_a_name_are_told_how_to_be_written(tmp_path: Path) -> None:
    """The folder is there by that very name, and the message said that nothing is."""
    folder = tmp_path / "data[1]"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"1")
    with pytest.raises(InputError, match=re.escape("a bracket that is part of a name is written `[[]`")):
        expand([f"{folder}/*.txt"])
    assert [found.uri for found in expand([f"{tmp_path}/data[[]1]/*.txt"])] == [str(folder / "a.txt")]


def test_the_listing_and_the_file_agree_on_its_version(base: str, write: Write) -> None:
    """Planning lists, collection looks up one by one: a difference would make every file look changed."""
    uri = write("in/a.txt", b"1")
    [listed] = expand([f"{base}/in/*"])
    found = find(uri)
    assert found is not None
    assert (listed.uri, listed.version, listed.size) == (found.uri, found.version, found.size)


def test_a_file_that_is_gone_or_a_folder_is_not_found(base: str, write: Write) -> None:
    write("x/a.txt", b"1")
    assert find(f"{base}/x") is None
    assert find(f"{base}/none") is None
    assert find(f"{base}/x/a.txt/b") is None


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_a_file_reads_back_from_any_place(base: str, write: Write, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    uri = write("a.bin", data)
    found = find(uri)
    assert found is not None
    with open_input(uri, found.version) as file:
        assert file.read() == data
        assert file.read() == b""
        assert file.seek(-min(size, 10), os.SEEK_END) == size - min(size, 10)
        assert file.read() == data[size - min(size, 10) :]
        assert file.seek(size // 2) == file.tell()
        assert file.read(1000) == data[size // 2 : size // 2 + 1000]
        file.seek(0)
        assert b"".join(file) == data
        file.seek(size + 5)
        assert file.read(10) == b""


@pytest.mark.parametrize("size", [0, 3, 300_000])
def test_another_content_is_never_read_as_the_planned_one(base: str, write: Write, size: int) -> None:
    """Rows of two versions in one unit would be paired with each other's ids."""
    uri = write("a.bin", b"a" * size)
    found = find(uri)
    assert found is not None
    write("a.bin", b"b" * (size or 1))
    with pytest.raises(SourceChanged, match=r"a\.bin"), open_input(uri, found.version) as file:
        file.read()


def test_what_this_process_lacks_says_nothing_against_a_file(tmp_path: Path) -> None:
    """A healthy file would be taken for one that can't be read, and the snapshot be published without it."""
    (tmp_path / "a.txt").write_bytes(b"a")
    [found] = expand([str(tmp_path / "*.txt")])
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), []

    def take_all() -> None:
        """Once more each time: what other tests have left to be collected gives some back."""
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))

    try:
        taken.append(os.open(os.devnull, os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, limits[1]))
        take_all()
        with pytest.raises(StorageError, match=r"a\.txt.*raise its limit \(`ulimit -n`\)"):
            open_input(found.uri, found.version).__enter__()
        take_all()
        with pytest.raises(StorageError, match=r"ulimit -n"):
            expand([str(tmp_path / "*.txt")])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for handle in taken:
            os.close(handle)


def test_a_change_in_the_middle_of_reading_is_noticed(base: str, write: Write) -> None:
    uri = write("a.bin", b"a" * 300_000)
    found = find(uri)
    assert found is not None
    with pytest.raises(SourceChanged), open_input(uri, found.version) as file:  # noqa: PT012
        assert file.read(10) == b"a" * 10
        write("a.bin", b"b" * 300_000)
        file.seek(250_000)
        file.read()


@pytest.mark.parametrize("size", [1000, 300_000])
@pytest.mark.parametrize("said", [-1, 1])
def test_an_object_of_another_size_than_was_said_is_not_read_short(s3_bucket: str, size: int, said: int) -> None:
    """A listing damaged on its way may say so: a digit of the size is one bit from another."""
    import boto3

    boto3.client("s3").put_object(Bucket=s3_bucket.removeprefix("s3://"), Key="a", Body=b"a" * size)
    found = find(f"{s3_bucket}/a")
    assert found is not None
    etag = found.version.rpartition("-")[0]
    with pytest.raises(SourceChanged), open_input(found.uri, f"{etag}-{size + said}") as file:
        file.read()


def test_a_file_that_is_gone_has_changed(base: str, write: Write) -> None:
    write("a.bin", b"a")
    with pytest.raises(SourceChanged), open_input(f"{base}/none", "x-1") as file:
        file.read()


def test_pyarrow_reads_and_passes_the_change_on(base: str, write: Write) -> None:
    """The error must come out of the Parquet reader as what it is, so that the unit is planned again."""
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    rows = np.random.default_rng(1).random(60_000)
    pq.write_table(pa.table({"a": rows, "b": rows}), buffer, row_group_size=20_000, use_dictionary=False)
    uri = write("a.parquet", buffer.getvalue())
    found = find(uri)
    assert found is not None
    with open_input(uri, found.version) as file:
        assert pq.ParquetFile(file).read_row_group(1, columns=["b"]).num_rows == 20_000
    with pytest.raises(SourceChanged), open_input(uri, found.version) as file:  # noqa: PT012
        parquet = pq.ParquetFile(file)
        write("a.parquet", buffer.getvalue() + b" ")
        parquet.read_row_group(2)


def test_a_parser_that_fails_on_a_changed_file_is_not_to_blame(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}")
    found = find(str(path))
    assert found is not None
    with pytest.raises(SourceChanged), open_input(str(path), found.version):  # noqa: PT012
        path.write_bytes(b"{")
        raise ValueError("malformed")
    found = find(str(path))
    assert found is not None
    with pytest.raises(ValueError, match="malformed"), open_input(str(path), found.version):
        raise ValueError("malformed")


def test_a_parser_may_close_the_file(tmp_path: Path) -> None:
    """As io.TextIOWrapper does when it is dropped."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"1")
    found = find(str(path))
    assert found is not None
    with open_input(str(path), found.version) as file:
        file.close()
    with pytest.raises(SourceChanged), open_input(str(path), found.version) as file:  # noqa: PT012
        file.close()
        path.write_bytes(b"22")


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    [found] = expand(["in/*.txt"])
    assert (found.uri, found.root) == (str(tmp_path / "in/a.txt"), str(tmp_path / "in"))


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "real.txt").write_bytes(b"1")
    (tmp_path / "in/link.txt").symlink_to(tmp_path / "real.txt")
    (tmp_path / "in/deep/loop").symlink_to(tmp_path / "in")
    assert [found.uri for found in expand([str(tmp_path / "in")])] == [str(tmp_path / "in/link.txt")]


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    """Skipping it would lose the rows it stands for."""
    (tmp_path / "a.txt").symlink_to(tmp_path / "none")
    with pytest.raises(InputError, match="leads nowhere"):
        expand([str(tmp_path)])


def test_a_link_to_itself_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a link there leads round in a circle; remove it, or put back .*a\.txt"):
        expand([str(tmp_path)])


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    """Reading a pipe would hang."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        expand([str(tmp_path)])


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """It could not be written into any record."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_bytes(b"1")
    with pytest.raises(InputError, match="not UTF-8"):
        expand([str(tmp_path)])


def test_empty_folder_markers_are_no_files(s3_bucket: str) -> None:
    import boto3

    client = boto3.client("s3")
    for key, body in (("in/", b""), ("in/sub/", b""), ("in/sub_$folder$", b""), ("in/a", b"1")):
        client.put_object(Bucket=s3_bucket.removeprefix("s3://"), Key=key, Body=body)
    assert [found.uri for found in expand([f"{s3_bucket}/in"])] == [f"{s3_bucket}/in/a"]
    assert [found.uri for found in expand([s3_bucket])] == [f"{s3_bucket}/in/a"]


@pytest.mark.parametrize("pattern", ["s3://b*/x", "s3://*", "s3://Not_A_Bucket!/x"])
def test_a_bucket_that_cannot_be_is_refused(s3_environment: str, pattern: str) -> None:
    with pytest.raises(InputError):
        expand([pattern])


def test_credentials_in_an_input_are_refused_unseen() -> None:
    with pytest.raises(ConfigError, match="credentials") as caught:
        expand(["s3://KEY:hunter2hunter2@bucket/in/*"])
    assert "hunter2" not in str(caught.value)


def test_reading_on_is_few_requests_and_each_is_pinned(s3_bucket: str, proxy: FaultProxy) -> None:
    import boto3

    size = 20 * 1024 * 1024
    boto3.client("s3").put_object(Bucket=s3_bucket.removeprefix("s3://"), Key="a", Body=bytes(size))
    found = find(f"{s3_bucket}/a")
    assert found is not None
    proxy.seen.clear()
    with open_input(found.uri, found.version) as file:
        assert sum(len(line) for line in iter(lambda: file.read(10_000), b"")) == size
    assert len(proxy.seen) <= 20  # each part twice: over plain HTTP two answers vouch for each other
    assert all(request.headers["if-match"].strip('"') == found.version.rpartition("-")[0] for request in proxy.seen)


def test_a_small_file_is_one_request_and_a_big_read_too(s3_bucket: str, proxy: FaultProxy) -> None:
    """Millions of small files: a look before each read would double their cost."""
    import boto3

    client = boto3.client("s3")
    for key, size, requests in (("small", 1000, 1), ("big", 3_000_000, 2)):  # parts over plain HTTP are asked for twice
        client.put_object(Bucket=s3_bucket.removeprefix("s3://"), Key=key, Body=bytes(size))
        found = find(f"{s3_bucket}/{key}")
        assert found is not None
        proxy.seen.clear()
        with open_input(found.uri, found.version) as file:
            file.seek(size // 3)
            assert len(file.read(size // 2)) == size // 2
        assert [request.method for request in proxy.seen] == ["GET"] * requests


@pytest.mark.parametrize("answer", ["503 SlowDown", "truncated", "lost"])
def test_reading_outlives_bad_answers(s3_bucket: str, proxy: FaultProxy, answer: str) -> None:
    import boto3

    boto3.client("s3").put_object(Bucket=s3_bucket.removeprefix("s3://"), Key="a", Body=b"0123456789" * 100)
    found = find(f"{s3_bucket}/a")
    assert found is not None
    proxy.faults = [Fault("GET", answer, times=2)]
    with open_input(found.uri, found.version) as file:
        assert file.read() == b"0123456789" * 100
    proxy.faults = [Fault("GET", answer, times=1000)]
    with pytest.raises(TransientStorageError), open_input(found.uri, found.version) as file:
        file.read()


def test_an_input_that_may_not_be_read_is_an_input_error(s3_bucket: str, proxy: FaultProxy) -> None:
    """And not a storage error, which would send the user to the output."""
    proxy.faults = [Fault("GET", "403 AccessDenied", times=9), Fault("HEAD", "403 AccessDenied", times=9)]
    with pytest.raises(InputError, match="access denied"):
        expand([f"{s3_bucket}/in/*"])
    with pytest.raises(InputError, match="access denied"), open_input(f"{s3_bucket}/a", "e-5") as file:
        file.read()
