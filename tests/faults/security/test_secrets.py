"""No secret of the environment is in anything that a job writes or says, however it ends."""

import gzip
import io
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.config import Config
from faults.security.canary import Canary
from faults.security.secrets import NAMES, as_profile, files, found, objects, planted, run_command
from support.jobs import make_config

from pipeline.cli.app import main
from pipeline.commit.manifest import ManifestUnit, encode_manifest
from pipeline.commit.records import PieceRef
from pipeline.config.load import dump_config
from pipeline.source.records import Span

DENIED = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n"
    b"<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"
)


@pytest.fixture
def bucket(s3_bucket: str) -> str:
    return s3_bucket.removeprefix("s3://")


@pytest.fixture
def short() -> Iterator[Path]:
    """Ray's sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="s-") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("engine", "kept"), [("serial", "profile"), pytest.param("ray", "environment", marks=pytest.mark.ray)]
)
def test_a_whole_job_writes_no_secret(
    engine: str, kept: str, short: Path, tiny_model: str, moto_endpoint: str, bucket: str
) -> None:
    """Logs, events, records, manifests, footers, the summary, and all that Ray writes into its session. The soak has the other
    two pairs as well."""
    settings = planted(moto_endpoint)
    given = settings if kept == "environment" else as_profile(settings, short / "home")
    code, said = run_command(short, given, tiny_model, bucket, engine)
    assert code == 0, said.decode()
    written = [*objects(settings, bucket), *files(short), ("output", said)]
    assert len(written) > 10
    assert any("session_" in name for name, _ in written) == (engine == "ray")
    assert found(settings, iter(written)) == []


def test_the_scan_finds_what_it_looks_for(moto_endpoint: str) -> None:
    settings = planted(moto_endpoint)
    secret = settings["AWS_SECRET_ACCESS_KEY"]
    assert found(settings, iter([("log", f"key={secret}".encode())])) == ["AWS_SECRET_ACCESS_KEY in log"]


def _manifest(secret: str) -> bytes:
    """A secret in one of sixty URIs: in no statistics of a page, only in the page, and that is compressed."""
    return encode_manifest([_unit(f"{number:032x}", uri) for number, uri in enumerate(_uris(secret))])


def _uris(secret: str) -> list[str]:
    uris = [f"s3://{uuid.uuid4().hex}/in" for _ in range(60)]
    uris[30] = f"s3://{'7' * 32}/in?key={secret}"
    return uris


def _lines(secret: str) -> bytes:
    """Enough for a compressor to spell every letter otherwise."""
    return "\n".join(_uris(secret)).encode()


def _unit(name: str, uri: str) -> ManifestUnit:
    pieces, spans = (PieceRef(uri, "v", "bytes", 0, 1, last=True),), (Span(uri, "v", "bytes", 0, 1),)
    return ManifestUnit(name, 0, "a" * 32, 0, True, pieces, spans, 1, 1, 0, "", "d", "cpu", "float32", "{}", ())


def _footer(secret: str) -> bytes:
    """Arrow's own schema is kept in base64 in a footer: there a field's metadata can be seen by nobody who doesn't decode it."""
    sink = io.BytesIO()
    pq.write_table(pa.table([[1]], schema=pa.schema([pa.field("a", pa.int64(), metadata={"told": secret})])), sink)
    return sink.getvalue()


def _dictionary(secret: str) -> bytes:
    values = pa.array(_uris(secret) * 2).dictionary_encode()
    sink = io.BytesIO()
    pq.write_table(pa.table({"s": pa.StructArray.from_arrays([values], ["deep"])}), sink, compression="zstd")
    return sink.getvalue()


def _zipped(secret: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", _lines(secret))
    return sink.getvalue()


PACKED: dict[str, Callable[[str], bytes]] = {
    "a manifest": _manifest,
    "metadata of a field": _footer,
    "a dictionary in a struct": _dictionary,
    "an archive": _zipped,
    "gzip": lambda secret: gzip.compress(_lines(secret)),
    "a member of gzip, cut off": lambda secret: (gzip.compress(b"x") + gzip.compress(_lines(secret)))[:-4],
    "zstd": lambda secret: pa.compress(_lines(secret), "zstd", asbytes=True),
    "a frame of zstd, cut off": lambda secret: pa.compress(_lines(secret) + bytes(2 << 20), "zstd", asbytes=True)[:-4],
    "Parquet in gzip": lambda secret: gzip.compress(_manifest(secret)),
}


@pytest.mark.parametrize("how", PACKED)
def test_the_scan_finds_what_is_packed(how: str) -> None:
    settings = planted("")
    data = PACKED[how](settings["HF_TOKEN"])
    assert settings["HF_TOKEN"].encode() not in data, "it is there for all to see"
    assert found(settings, iter([("it", data)])) == ["HF_TOKEN in it"]
    assert found(planted(""), iter([("it", data)])) == []


@pytest.mark.parametrize("failure", ["wrong endpoint", "access denied", "no such bucket"])
@pytest.mark.parametrize("place", ["input", "output"])
def test_a_job_that_fails_tells_no_secret(
    failure: str, place: str, tmp_path: Path, tiny_model: str, moto_endpoint: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """SDKs quote in their errors what they were given."""
    with Canary(tmp_path, b"" if failure == "wrong endpoint" else DENIED) as store:
        settings = planted(moto_endpoint if failure == "no such bucket" else f"http://{store.host}")
        settings["AWS_ENDPOINT_URL"] = settings["AWS_ENDPOINT_URL"].replace(
            "//", f"//someone:{settings['HF_TOKEN']}@", 1
        )
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "b"}\n')
        missing = f"s3://b-{uuid.uuid4().hex}/x"
        source, output = (missing, str(tmp_path / "out")) if place == "input" else (str(tmp_path / "in.jsonl"), missing)
        (tmp_path / "job.yaml").write_text(dump_config(make_config(source, output, tiny_model)))
        code = main(["--debug", "run", "-c", str(tmp_path / "job.yaml"), "--json"])
    said = capfd.readouterr()
    assert code in (3, 4), said.err
    assert found(settings, iter([("stdout", said.out.encode()), ("stderr", said.err.encode()), *files(tmp_path)])) == []


@pytest.mark.parametrize("place", ["input", "output", "model"])
def test_a_store_that_repeats_the_keys_of_a_profile_tells_no_secret(
    place: str, short: Path, tiny_model: str, bucket: str
) -> None:
    """The README recommends profiles. No variable of the environment holds their keys, and a refusal may quote them."""
    settings = planted("")
    talk = " ".join(settings[name] for name in NAMES)
    body = f"<Error><Code>InvalidToken</Code><Message>{talk}</Message></Error>"
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with Canary(short, (head + body).encode()) as store:
        settings["AWS_ENDPOINT_URL"] = f"http://{store.host}"
        changes = {"input": {"paths": [f"s3://{bucket}/in/*.parquet"]}} if place == "input" else {}
        model = f"s3://{bucket}/model" if place == "model" else tiny_model
        given = as_profile(settings, short / "home")
        code, said = run_command(short, given, model, bucket, "serial", debug=True, **changes)
        assert store.calls
    assert code in (2, 3, 4), said.decode()
    assert b"InvalidToken" in said
    assert b"***" in said
    assert found(settings, iter([("output", said), *files(short)])) == []


def test_what_is_submitted_holds_no_secret(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's package and settings are shown in the cluster's dashboard."""
    from pipeline.flow.submit import _settings, pack

    settings = planted("http://127.0.0.1:9")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    pack(make_config("s3://b/in/", "s3://b/out", tiny_model, execution__engine="ray"), tmp_path)
    assert found(settings, iter([("settings", repr(_settings()).encode()), *files(tmp_path)])) == []


def test_boto_itself_would_have_told() -> None:
    """The endpoint's user info is what SDKs put into their messages: the scan above is not about nothing."""
    client = boto3.client(
        "s3", endpoint_url="http://someone:secret@127.0.0.1:9", region_name="us-east-1", aws_access_key_id="k",
        aws_secret_access_key="s", config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    with pytest.raises(Exception, match="secret@"):
        client.list_buckets()
