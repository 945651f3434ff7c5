"""File names that programs stumble over, and ids of every kind in JSON lines."""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

from faults.corpus.case import Case, Refused, Row, Rows

NAMES = (
    "with blanks  in it.txt",
    " leading blank.txt",
    "percent%.txt",
    "a%2Fb.txt",
    "%00.txt",
    "%.txt",
    "hash#1.txt",
    "question?.txt",
    "star*.txt",
    "[brackets].txt",
    "{braces}.txt",
    "a..b.txt",
    "..txt.txt",
    "-rf.txt",
    "--help.txt",
    "'quotes'.txt",
    'double"quotes".txt',
    "back\\slash.txt",
    "new\nline.txt",
    "tab\t.txt",
    "semi;colon.txt",
    "dollar$HOME.txt",
    "`id`.txt",
    "a&b=c.txt",
    "plus+plus.txt",
    "at@1.txt",
    "colon:1.txt",
    "pipe|.txt",
    "emoji😀.txt",
    "e\u0301.txt",
    unicodedata.normalize("NFC", "e\u0301.txt"),
    "東京/大阪.txt",
    "x" * 240 + ".txt",
    "/".join(["deep"] * 60) + "/a.txt",
    "key=value/a.txt",
    "key=%2F..%2F/a.txt",
    "=/a.txt",
    "a=/b.txt",
    "upper.TXT",
    "two.dots.txt",
    "rtl\u202e.txt",
    "\u200bzero.txt",
    "bell\x07.txt",
    "esc\x1b[31m.txt",
    "\x7f.txt",
)


def cases() -> Iterator[Case]:
    """All of them."""
    for name in dict.fromkeys(NAMES):
        visible = not any(part.startswith((".", "_")) for part in name.split("/"))
        right = Rows(((f"{name}@0", "a", None), (f"{name}@2", "b", None))) if visible else Refused("matches no file")
        if visible:
            yield Case(
                f"a file called {name[:40]!r}", name, lambda: b"a\nb\n", right, options={"id": None, "text": None}
            )
            yield Case(
                f"a damaged file called {name[:40]!r}", f"{name}.gz", lambda: b"\x1f\x8b", Refused("the gzip stream is damaged"),
                options={"id": None, "text": None},
            )  # fmt: skip
    yield from _ids()


def _ids() -> Iterator[Case]:
    found: dict[str, tuple[Any, Row | None]] = {
        "null": (None, (None, None, "null_id")),
        "empty": ("", ("", None, "null_id")),
        "a blank": (" ", (" ", "b", None)),
        "the same again": ("1", ("1", "b", None)),
        "a line end": ("2\n3", ("2\n3", "b", None)),
        "a NUL": ("2\0", ("2\0", "b", None)),
        "a hundred thousand letters": ("x" * 100_000, ("x" * 100_000, "b", None)),
        "a path": ("../../etc/passwd", ("../../etc/passwd", "b", None)),
        "digits": ("00123", ("00123", "b", None)),
        "a float": (2.5, None),
        "true": (True, None),
        "an integer": (2, None),
        "an array": (["2"], None),
        "an object": ({"a": "2"}, None),
    }
    first: Row = ("1", "a", None)
    for what, (row_id, row) in found.items():
        data = b'{"id": "1", "text": "a"}\n' + json.dumps({"id": row_id, "text": "b"}).encode() + b"\n"
        due: Rows | Refused = (
            Rows((first, row)) if row else Refused("byte 25: 'id' is .+, but the column is string", (first,))
        )
        yield Case(f"jsonl: an id that is {what}", "a.jsonl", lambda d=data: d, due)  # type: ignore[misc]
    numbers = {"2^63-1": (1 << 63) - 1, "-2^63": -(1 << 63), "0": 0}
    for what, number in numbers.items():
        data = json.dumps({"id": number, "text": "a"}).encode() + b"\n"
        yield Case(f"jsonl: the id {what}", "a.jsonl", lambda d=data: d, Rows(((number, "a", None),)), company=False)  # type: ignore[misc]
    too_big = {"2^63": 1 << 63, "-2^63-1": -(1 << 63) - 1, "10^30": 10**30}
    for what, number in too_big.items():
        data = b'{"id": 1, "text": "a"}\n' + json.dumps({"id": number, "text": "b"}).encode() + b"\n"
        refused = Refused(r"byte 23: 'id' is -?\d+, but the column is int64", ((1, "a", None),))
        yield Case(f"jsonl: the id {what}", "a.jsonl", lambda d=data: d, refused, company=False)  # type: ignore[misc]
    mixed = b'{"id": 1, "text": "a"}\n{"id": "2", "text": "b"}\n'
    yield Case(
        "jsonl: ids of two types",
        "a.jsonl",
        lambda: mixed,
        Refused("byte 23: 'id' is \"2\", but the column is int64", ((1, "a", None),)),
        company=False,
    )
