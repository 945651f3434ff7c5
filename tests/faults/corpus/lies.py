"""Parquet and Arrow files that are not what their name says, and footers whose numbers can't be."""

import struct
from collections.abc import Iterator
from functools import partial

from faults.corpus.case import Case, Refused, Rows
from faults.corpus.formats import COLUMNS, arrow, due_rows, parquet

UNREADABLE = r"can't be read: .+; restore or replace the file|not a readable \w+ file: "


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _magic()
    yield from _lies()


def _magic() -> Iterator[Case]:
    """Files that are not what their name says."""
    good = {name: write() for name, write in COLUMNS.items()}
    wrong: dict[str, tuple[str, bytes]] = {
        "text": ("a.parquet", b"plain text, not what the name says"),
        "JSON lines": ("a.parquet", b'{"id": "1", "text": "a"}\n'),
        "an Arrow file": ("a.parquet", good["a.arrow"]),
        "an Arrow stream": ("a.parquet", good["stream.arrow"]),
        "gzip": ("a.parquet", b"\x1f\x8b\x08" + bytes(30)),
        "only its magic": ("a.parquet", b"PAR1"),
        "its magic twice": ("a.parquet", b"PAR1PAR1"),
        "a footer of nothing": ("a.parquet", b"PAR1\0\0\0\0PAR1"),
        "another end mark": ("a.parquet", good["a.parquet"][:-4] + b"PAR2"),
        "an encrypted footer": ("a.parquet", b"PARE" + good["a.parquet"][4:-4] + b"PARE"),
        "a Parquet file": ("a.arrow", good["a.parquet"]),
        "text in place of Arrow": ("a.arrow", b"plain text, not what the name says"),
        "only Arrow's magic": ("a.arrow", b"ARROW1\0\0"),
        "Arrow's magic twice": ("a.arrow", b"ARROW1\0\0ARROW1"),
        "Feather of old": ("a.feather", b"FEA1" + bytes(40) + b"FEA1"),
        "zeros": ("a.arrow", bytes(4096)),
        "only a stream's first word": ("a.arrow", b"\xff\xff\xff\xff"),
        "a stream of nothing": ("a.arrow", b"\xff\xff\xff\xff\0\0\0\0"),
    }  # fmt: skip
    for what, (name, data) in wrong.items():
        yield Case(f"{name} that is: {what}", name, lambda d=data: d, Refused(UNREADABLE))  # type: ignore[misc]
    end = good["stream.arrow"]
    yield Case("two streams one after the other", "a.arrow", lambda: end + end, Refused("but the file goes on"))
    yield Case("a stream without its end mark", "a.arrow", lambda: end[:-8], Refused("and has no end mark"))
    for name in ("a.pq", "a.PARQUET"):
        yield Case(f"a Parquet file called {name}", name, parquet, Rows(tuple(due_rows("a.parquet"))))
    for name in ("a.feather", "a.ipc"):
        yield Case(
            f"an Arrow stream called {name}", name, partial(arrow, streamed=True), Rows(tuple(due_rows("a.arrow")))
        )


def _lies() -> Iterator[Case]:
    """Footers whose numbers can't be."""
    data = parquet()
    size = struct.unpack("<I", data[-8:-4])[0]
    lengths = {
        "0": 0,
        "1": 1,
        "too short": size - 1,
        "beyond the file": len(data) * 2,
        "2^31": 1 << 31,
        "2^32-1": (1 << 32) - 1,
    }
    for what, claimed in lengths.items():
        lie = data[:-8] + struct.pack("<I", claimed) + data[-4:]
        yield Case(f"a Parquet footer whose length is {what}", "a.parquet", lambda d=lie: d, Refused(UNREADABLE))  # type: ignore[misc]
    for what, number in {"2^40": 1 << 40, "-1": -1, "25": 25, "24, of -24 in a row group": -24}.items():
        yield Case(
            f"a Parquet footer that says its file has {what} rows", "a.parquet", partial(_rows_said, number, "of" in what),
            Refused(UNREADABLE + "|footer says"),
        )  # fmt: skip
    # what every number in the footer agrees on is what the file has
    due = tuple(due_rows("a.parquet"))
    for number in (0, 23):
        yield Case(
            f"a Parquet footer that says {number} everywhere",
            "a.parquet",
            partial(_rows_said, number),
            Rows(due[:number]),
        )
    # pyarrow ends the process where it is asked for the statistics of such a column
    level = data.replace(b"\x25\x02\x18\x02id", b"\x25\x06\x18\x02id")
    assert level != data
    yield Case("a Parquet footer with a repetition nobody knows", "a.parquet", lambda: level, Refused(UNREADABLE))
    batch = arrow()
    size = struct.unpack("<i", batch[-10:-6])[0]
    for what, claimed in {
        "zero": 0,
        "negative": -size,
        "longer than the file": 1 << 20,
        "2^31-1": (1 << 31) - 1,
    }.items():
        lie = batch[:-10] + struct.pack("<i", claimed) + batch[-6:]
        yield Case(f"an Arrow footer whose length is {what}", "a.arrow", lambda d=lie: d, Refused(UNREADABLE))  # type: ignore[misc]


def _rows_said(number: int, but_file: bool = False) -> bytes:
    """The same file with another count wherever its footer has it, or everywhere but for the whole file."""
    data = bytearray(parquet(row_group_size=100))
    footer = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    due, said = b"\x16" + _varint(24), b"\x16" + _varint(number)  # thrift's zigzag numbers
    head, _, rest = bytes(data[footer:-8]).partition(due)
    body = head + (due if but_file else said) + rest.replace(due, said)
    return bytes(data[:footer]) + body + struct.pack("<I", len(body)) + b"PAR1"


def _varint(number: int) -> bytes:
    left = (number << 1) ^ (number >> 63)
    found = bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes([*found, left])
