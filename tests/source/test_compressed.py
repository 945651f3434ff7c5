"""gzip and zstd: several members, and no cut or damage that goes unnoticed."""

import gzip
import io
import itertools
import json
import random
import struct
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.source.discover import discover
from pipeline.source.records import UnitPolicy

from .conftest import PATIENT, jsonl_bytes, read_rows, read_units, source_of, zstd_bytes

RECORDS = [{"id": f"{row}", "text": f"{random.Random(row).random()} text"} for row in range(300)]
DATA = jsonl_bytes(RECORDS)
DUE = [(record["id"], record["text"], None) for record in RECORDS]
PACK = {".gz": gzip.compress, ".zst": zstd_bytes}
SKIPPED = struct.pack("<II", 0x184D2A50, 5) + b"hello"
"""A zstd frame without data, as pzstd writes."""


@PATIENT
@given(st.lists(st.integers(0, len(DATA)), max_size=4), st.sampled_from([".gz", ".zst"]))
def test_members_cut_anywhere_are_one_stream(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], suffix: str
) -> None:
    """pigz, bgzip and `cat a.gz b.gz` write several; a line goes on from one into the next."""
    path = tmp_path_factory.mktemp("members") / f"a.jsonl{suffix}"
    bounds = [0, *sorted(cuts), len(DATA)]
    path.write_bytes(b"".join(PACK[suffix](DATA[a:b]) for a, b in itertools.pairwise(bounds)))
    assert read_rows(path) == DUE


def test_zstd_frames_without_data_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    half = len(DATA) // 2
    path.write_bytes(SKIPPED + zstd_bytes(DATA[:half]) + SKIPPED + zstd_bytes(DATA[half:]) + SKIPPED)
    assert read_rows(path) == DUE


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_cut_is_noticed_wherever_it_is(tmp_path: Path, name: str, suffix: str) -> None:
    """The rows before it read well, so that nothing else would tell that some are missing."""
    packed = PACK[suffix](DATA if name != "a.csv" else b"id,text\n" + b"1,a\n" * 3000)
    path = tmp_path / f"{name}{suffix}"
    text = {"id": None} if name == "a.txt" else {}
    for size in {
        *range(1, 25),
        *range(25, len(packed), max(1, len(packed) // 20)),
        *range(len(packed) - 12, len(packed)),
    }:
        path.write_bytes(packed[:size])
        with pytest.raises(InputError, match=rf"a\.\w+{suffix}: the (gzip|zstd) stream is damaged"):
            read_rows(path, **text)


@pytest.mark.parametrize("suffix", PACK)
def test_damage_is_noticed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    for junk in (b"junk", b"\x1f\x8b", b"\x28\xb5\x2f\xfd\x00"):
        path.write_bytes(PACK[suffix](DATA) + junk)
        with pytest.raises(InputError, match=r"a\.jsonl"):
            read_rows(path)
    packed = bytearray(gzip.compress(DATA))
    packed[-6] ^= 1
    (tmp_path / "crc.jsonl.gz").write_bytes(packed)
    with pytest.raises(InputError, match=r"crc\.jsonl\.gz: the gzip stream is damaged"):
        read_rows(tmp_path / "crc.jsonl.gz")


def test_zeros_after_a_gzip_are_padding(tmp_path: Path) -> None:
    """Tapes and some block stores round up."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(DATA) + bytes(512))
    assert read_rows(path) == DUE


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
@pytest.mark.parametrize("suffix", PACK)
def test_compressed_data_under_a_plain_name_is_named(tmp_path: Path, name: str, suffix: str) -> None:
    """As text it would be rows of rubbish."""
    path = tmp_path / name
    path.write_bytes(PACK[suffix](DATA))
    with pytest.raises(InputError, match=rf"{name}: holds (gzip|zstd) data, but its name doesn't end in {suffix}"):
        read_rows(path, id=None)


@pytest.mark.parametrize("inner", PACK)
@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_data_that_is_packed_twice_is_named(tmp_path: Path, name: str, suffix: str, inner: str) -> None:
    """Web servers pack what is packed already. Inflated once it is rubbish, line by line."""
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(PACK[suffix](PACK[inner](DATA)))
    with pytest.raises(
        InputError, match=rf"{name}{suffix}: holds (gzip|zstd) data, packed once more with (gzip|zstd);"
    ):
        read_rows(path, id=None)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.zst", "a.tar", "a.zip.gz", "a.tgz"])
def test_an_archive_is_told_by_its_name_below_its_packing_too(tmp_path: Path, name: str) -> None:
    """Where the format is configured nothing else of its name is looked at."""
    (tmp_path / name).write_bytes(gzip.compress(DATA))
    with pytest.raises(InputError, match=rf"{name}: \.\w+ files can't be read; unpack it"):
        discover(source_of(tmp_path / name, format="text"))


@pytest.mark.parametrize("suffix", PACK)
def test_an_archive_under_the_name_of_packed_lines_is_named(tmp_path: Path, suffix: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        members.add(__file__, "a.txt")
    (tmp_path / f"a.txt{suffix}").write_bytes(PACK[suffix](archive.getvalue()))
    with pytest.raises(InputError, match=rf"a.txt{suffix}: is a tar archive, not lines of text; unpack it"):
        read_rows(tmp_path, id=None)


@pytest.mark.parametrize("suffix", PACK)
def test_plain_data_under_a_compressed_name_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(DATA)
    with pytest.raises(InputError, match=r"a\.jsonl\.\w+: the (gzip|zstd) stream is damaged"):
        read_rows(path)


@pytest.mark.parametrize("suffix", PACK)
def test_rows_of_compressed_lines_are_numbered(tmp_path: Path, suffix: str) -> None:
    """Offsets into the inflated stream could not be looked up again; blank lines have no number."""
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACK[suffix](b'\xef\xbb\xbf{"text": "a"}\r\n\n{"text": "b"}'))
    [unit] = read_units(source_of(path, id=None))
    assert unit.rows["id"].to_pylist() == [f"a.jsonl{suffix}#0", f"a.jsonl{suffix}#1"]
    assert [(span.measure, span.start, span.stop) for span in unit.spans] == [("rows", 0, 2)]


@pytest.mark.parametrize("suffix", PACK)
def test_spans_of_compressed_lines_are_row_numbers_whatever_is_blank_between_them(tmp_path: Path, suffix: str) -> None:
    """They ended at a byte of the inflated stream, so that the next unit began before it, and `verify` found rows missing."""
    lines = [json.dumps({"id": f"{row}", "text": "t"}) + "\n" * (1 + row % 2) for row in range(6)]
    (tmp_path / f"a.jsonl{suffix}").write_bytes(PACK[suffix](("\n" + "".join(lines) + " \n\n").encode()))
    units = read_units(source_of(tmp_path), policy=UnitPolicy(2, 1 << 20, 1 << 20))
    spans = [(span.measure, span.start, span.stop) for unit in units for span in unit.spans]
    assert spans == [("rows", 0, 2), ("rows", 2, 4), ("rows", 4, 6)]
    assert [unit.rows["position"].to_pylist() for unit in units] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("suffix", PACK)
def test_an_empty_member_has_no_rows(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"0.jsonl{suffix}").write_bytes(PACK[suffix](b""))
    (tmp_path / f"2.jsonl{suffix}").write_bytes(PACK[suffix](DATA))
    assert read_rows(tmp_path) == DUE
    (tmp_path / f"1.jsonl{suffix}").write_bytes(b"")
    with pytest.raises(InputError, match=r"1\.jsonl\.\w+: is empty: 0 bytes are no (gzip|zstd) file"):
        read_rows(tmp_path)
