"""gzip and zstd: several members, rubbish, wrong names, and what can't be read at all."""

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

from faults.corpus.case import Case, Refused, Rows, rows
from faults.corpus.formats import PACK, due_rows, gz, jsonl, zst

LINE = b'{"id": "1", "text": "a"}\n'
NEXT = b'{"id": "2", "text": "b"}\n'
DAMAGED = r"the (gzip|zstd) stream is damaged"
SKIPPABLE = struct.pack("<II", 0x184D2A50, 5) + b"hello"


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _members()
    yield from _gzip_only()
    yield from _names()


def _members() -> Iterator[Case]:
    whole = jsonl()
    half = len(whole) // 2 + 3
    for suffix, pack in PACK.items():
        name = f"a.jsonl{suffix}"
        made: dict[str, tuple[Callable[[], bytes], Rows | Refused]] = {
            "two members cut within a line": (
                lambda p=pack: p(whole[:half]) + p(whole[half:]),
                Rows(tuple(due_rows("a.jsonl"))),
            ),  # type: ignore[misc]
            "a member for each line": (lambda p=pack: p(LINE) + p(NEXT), rows("a", "b")),  # type: ignore[misc]
            "empty members around it": (lambda p=pack: p(b"") + p(LINE) + p(b""), rows("a")),  # type: ignore[misc]
            "nothing in it": (lambda p=pack: p(b""), rows()),  # type: ignore[misc]
            "packed twice": (
                lambda p=pack: p(p(LINE)),
                Refused("holds (gzip|zstd) data, packed once more with (gzip|zstd); unpack it once"),
            ),  # type: ignore[misc]
            "half a header behind it": (lambda p=pack: p(LINE) + p(NEXT)[:3], Refused(DAMAGED)),  # type: ignore[misc]
            "half a member behind it": (lambda p=pack: p(LINE) + p(whole)[:-20], Refused(DAMAGED)),  # type: ignore[misc]
            "a text file behind it": (lambda p=pack: p(LINE) + NEXT, Refused(DAMAGED)),  # type: ignore[misc]
            "not packed at all": (lambda: LINE, Refused(DAMAGED)),
            "no byte": (lambda: b"", Refused(r"is empty: 0 bytes are no (gzip|zstd) file")),
            "one byte": (lambda p=pack: p(LINE)[:1], Refused(DAMAGED)),  # type: ignore[misc]
            "only a header": (lambda p=pack: p(LINE)[:10], Refused(DAMAGED)),  # type: ignore[misc]
            "the other packer": (partial({".gz": zst, ".zst": gz}[suffix], LINE), Refused(DAMAGED)),
        }
        for what, (data, right) in made.items():
            yield Case(f"{name}: {what}", name, data, right)


def _gzip_only() -> Iterator[Case]:
    body = zlib.compress(LINE)[2:-4]
    named = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03name.jsonl\0" + body + struct.pack("<II", zlib.crc32(LINE), len(LINE))
    reserved = bytearray(gz(LINE))
    reserved[2] = 7
    due: dict[str, tuple[bytes, Rows | Refused]] = {
        "a name in its header": (named, rows("a")),
        "zeros behind it": (gz(LINE) + bytes(4096), rows("a")),
        "zeros and a member behind it": (gz(LINE) + bytes(7) + gz(NEXT), rows("a", "b")),
        "rubbish behind it": (gz(LINE) + b"rubbish", Refused(DAMAGED)),
        "a magic number behind it": (gz(LINE) + b"\x1f\x8b", Refused(DAMAGED)),
        "a wrong length": (gz(LINE)[:-4] + b"\0\0\0\1", Refused(DAMAGED)),
        "a wrong checksum": (gz(LINE)[:-8] + b"\0\0\0\1" + gz(LINE)[-4:], Refused(DAMAGED)),
        "no checksum": (gz(LINE)[:-8], Refused(DAMAGED)),
        "a method nobody knows": (bytes(reserved), Refused(DAMAGED)),
        "zlib, not gzip": (zlib.compress(LINE), Refused(DAMAGED)),
        "stored, not packed": (gzip.compress(LINE, 0, mtime=0), rows("a")),
        "a thousand members": (gz(b"") * 1000 + gz(LINE), rows("a")),
    }
    for what, (data, right) in due.items():
        yield Case(f"gzip: {what}", "a.jsonl.gz", lambda d=data: d, right)  # type: ignore[misc]
    yield Case("zstd: frames without data", "a.jsonl.zst", lambda: SKIPPABLE + zst(LINE) + SKIPPABLE, rows("a"))
    yield Case("zstd: only a frame without data", "a.jsonl.zst", lambda: SKIPPABLE, rows())


def _names() -> Iterator[Case]:
    """Packed data under plain names, and packers that aren't read."""
    for suffix, pack in PACK.items():
        for name in ("a.jsonl", "a.csv", "a.tsv", "a.txt"):
            options = {"id": None, "text": None} if name == "a.txt" else {}
            yield Case(
                f"{name}: {suffix} data under a plain name", name, partial(pack, jsonl()),
                Refused(rf"holds (gzip|zstd) data, but its name doesn't end in {suffix}; rename it"), options=options,
            )  # fmt: skip
    unread = {".bz2": bz2.compress(LINE), ".xz": lzma.compress(LINE), ".lzma": lzma.compress(LINE, lzma.FORMAT_ALONE)}
    for suffix in (".bz2", ".xz", ".lzma", ".lz4", ".zip", ".7z", ".br", ".snappy", ".tgz", ".tar"):
        data = unread.get(suffix, b"\x50\x4b\x03\x04")
        yield Case(
            f"a.jsonl{suffix}: can't be read", f"a.jsonl{suffix}", lambda d=data: d,  # type: ignore[misc]
            Refused(rf"\{suffix} files can't be read; unpack it, or pack single files with gzip or zstd"), by_name=True,
        )  # fmt: skip
    said = {
        ".bz2": "is bzip2 data, not lines of text",
        ".xz": "is xz data, not lines of text",
        ".lzma": "a JSON object",
    }
    for suffix, data in unread.items():
        yield Case(
            f"a.jsonl: {suffix} data under a plain name", "a.jsonl", lambda d=data: d,  # type: ignore[misc]
            Refused(said[suffix]),
        )  # fmt: skip
    for name in ("a.parquet.gz", "a.arrow.zst", "a.feather.gz"):
        yield Case(
            f"{name}: packed outside", name, lambda: gz(b"PAR1"), Refused("files are compressed inside"), by_name=True
        )
    for name in ("a", "a.xlsx", "a.gz", "a.avro", "a.orc", "a.jsonl.bak", "a.md"):
        yield Case(
            f"{name}: a name that doesn't tell",
            name,
            lambda: LINE,
            Refused("the name does not tell the format"),
            by_name=True,
        )
