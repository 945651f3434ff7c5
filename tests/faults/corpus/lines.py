"""JSON lines and plain text: encodings, line ends, JSON that is odd, and lines that are too long."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from faults.corpus.case import Case, Counts, Refused, Row, Rows, rows
from faults.corpus.formats import PACK

GOOD = b'{"id": "1", "text": "a"}\n'
BOM = b"\xef\xbb\xbf"
NOT_JSON = r"byte 25: the line is not a JSON object\. Mend the source, or set rows\.malformed to quarantine"
PLAIN = {"id": None, "text": None}
CAP = 1000


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _malformed()
    yield from _json_lines()
    yield from _plain_text()
    yield from _encodings()
    yield from _long()


def _jsonl(name: str, data: bytes, right: Rows | Refused | Counts, **more: Any) -> Case:
    return Case(f"jsonl: {name}", "a.jsonl", lambda: data, right, **more)


def _malformed() -> Iterator[Case]:
    """Lines that are no JSON object: refused with their place, or kept aside where the config says so."""
    bad = {
        "a cut line": b'{"id": "2", "te',
        "a hundred thousand brackets": b"[" * 100_000,
        "a hundred thousand objects in each other": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "NaN": b'{"id": "2", "text": "b", "n": NaN}',
        "Infinity": b'{"id": "2", "text": "b", "n": -Infinity}',
        "1e999 nobody asked for": b'{"id": "2", "text": "b", "n": 1e999}',
        "an array": b'["2", "b"]',
        "a string": b'"b"',
        "a number": b"7",
        "two objects on a line": b'{"id": "2", "text": "b"} {"id": "3", "text": "c"}',
        "a comma behind it": b'{"id": "2", "text": "b"},',
        "single quotes": b"{'id': '2', 'text': 'b'}",
        "a trailing comma inside": b'{"id": "2", "text": "b",}',
        "a comment": b'{"id": "2", "text": "b"} // two',
        "a NUL inside": b'{"id": "2", "text": "b\0"}',
        "a NUL behind it": b'{"id": "2", "text": "b"}\0',
        "a raw tab in a string": b'{"id": "2", "text": "b\tc"}',
        "a lone CR between objects": b'{"id": "2", "text": "b"}\r{"id": "3", "text": "c"}',
        "a second BOM": BOM + b'{"id": "2", "text": "b"}',
        "a number of five thousand digits": b'{"id": "2", "text": "b", "n": ' + b"9" * 5000 + b"}",
        "bytes that are neither UTF-8 nor JSON": b"\xff\xfe\x00\x01",
        "half a character at a cut": b'{"id": "2", "text": "\xc3',
        "a Python dict": b"{'id': None}",
        "an XML document": b"<row id='2'>b</row>",
    }
    for name, line in bad.items():
        data = GOOD + line + b'\n{"id": "3", "text": "c"}\n'
        yield _jsonl(name, data, Refused(NOT_JSON, rows("a", ("3", "c", None)).rows))
        aside = rows("a", (None, None, "malformed"), ("3", "c", None))
        yield _jsonl(f"{name}, kept aside", data, aside, rows={"malformed": "quarantine"})
    document = json.dumps([{"id": "1", "text": "a"}], indent=1).encode()
    yield _jsonl(
        "a document over many lines", document, Refused("not a JSON object|none of its first 6 lines is a JSON object")
    )
    yield _jsonl(
        "only rubbish", b"rubbish\n" * 3, Refused(r"byte \d+: the line is not a JSON object|none of its first 3 lines")
    )


def _json_lines() -> Iterator[Case]:
    """JSON that is odd, and right."""
    last: list[tuple[str, bytes, Row]] = [
        ("a key twice: the last one counts", b'{"id": "2", "text": "x", "text": "b"}', ("2", "b", None)),
        (
            "a big integer nobody asked for",
            b'{"id": "2", "text": "b", "n": 123456789012345678901234567890}',
            ("2", "b", None),
        ),
        ("U+2028 raw", '{"id": "2", "text": "b\u2028c\u2029d"}'.encode(), ("2", "b\u2028c\u2029d", None)),
        ("U+0085 raw", '{"id": "2", "text": "b\u0085c"}'.encode(), ("2", "b\u0085c", None)),
        ("an escaped NUL", b'{"id": "2", "text": "b\\u0000c"}', ("2", "b\0c", None)),
        ("an escaped pair", b'{"id": "2", "text": "\\ud83d\\ude00"}', ("2", "😀", None)),
        ("half a pair", b'{"id": "2", "text": "\\ud83d"}', ("2", None, "lone_surrogate")),
        ("a pair the wrong way round", b'{"id": "2", "text": "\\ude00\\ud83d"}', ("2", None, "lone_surrogate")),
        ("half a pair in the id", b'{"id": "\\ud83d", "text": "b"}', (None, None, "lone_surrogate")),
        ("invalid UTF-8 in a string", b'{"id": "2", "text": "\xff"}', (None, None, "invalid_utf8")),
        ("a surrogate in UTF-8", b'{"id": "2", "text": "\xed\xa0\x80"}', (None, None, "invalid_utf8")),
        ("an overlong NUL", b'{"id": "2", "text": "\xc0\x80"}', (None, None, "invalid_utf8")),
        ("no text", b'{"id": "2"}', ("2", None, "null")),
        ("a null text", b'{"id": "2", "text": null}', ("2", None, "null")),
        ("an empty text", b'{"id": "2", "text": ""}', ("2", "", None)),
        ("blanks for a text", b'{"id": "2", "text": " \\t "}', ("2", " \t ", None)),
        ("a number for a text", b'{"id": "2", "text": 7}', ("2", None, "not_a_string")),
        ("true for a text", b'{"id": "2", "text": true}', ("2", None, "not_a_string")),
        ("an array for a text", b'{"id": "2", "text": ["b"]}', ("2", None, "not_a_string")),
        ("an object for a text", b'{"id": "2", "text": {"b": "c"}}', ("2", None, "not_a_string")),
        ("an empty object", b"{}", (None, None, "null")),
        ("blanks around it", b'  {"id": "2", "text": "b"}\t ', ("2", "b", None)),
        ("no line end", b'{"id": "2", "text": "b"}', ("2", "b", None)),
        ("CRLF", b'{"id": "2", "text": "b"}\r', ("2", "b", None)),
    ]
    for name, line, row in last:
        yield _jsonl(name, GOOD + line + (b"" if name == "no line end" else b"\n"), rows("a", row))
    yield _jsonl("blank lines", b"\n \n" + GOOD + b"\r\n\t\n", rows("a"))
    yield _jsonl(
        "mixed line ends", GOOD + b'{"id": "2", "text": "b"}\r\n\n{"id": "3", "text": "c"}', rows("a", "b", "c")
    )
    yield _jsonl("nothing but blank lines", b"\n\n  \n", rows())
    yield _jsonl("no byte", b"", rows())
    yield _jsonl("nothing but a BOM", BOM, rows())
    null = Refused("byte 25: the text is null", rows("a").rows)
    yield _jsonl("refused null", GOOD + b'{"id": "2"}\n', null, rows={"null": "refuse"})
    yield _jsonl(
        "an empty text is refused by its reader only where rows.empty says so",
        GOOD,
        rows("a"),
        rows={"empty": "refuse"},
    )


def _plain_text() -> Iterator[Case]:
    """Each line is a row whatever it holds; only \\n ends one."""
    found: dict[str, tuple[bytes, list[tuple[int, str | None, str | None]]]] = {
        "blank lines": (b"a\n\nb\n", [(0, "a", None), (2, "", None), (3, "b", None)]),
        "CRLF": (b"a\r\nb\r\n", [(0, "a", None), (3, "b", None)]),
        "a lone CR": (b"a\rb\nc", [(0, "a\rb", None), (4, "c", None)]),
        "NULs": (b"a\0b\n\0\n", [(0, "a\0b", None), (4, "\0", None)]),
        "U+2028, U+0085, VT, FF": ("a\u2028b\u0085c\x0bd\x0ce\n".encode(), [(0, "a\u2028b\u0085c\x0bd\x0ce", None)]),
        "invalid UTF-8": (b"a\n\xff\xfd\nb\n", [(0, "a", None), (2, None, "invalid_utf8"), (5, "b", None)]),
        "Latin-1": ("a\nGrüße\n".encode("latin-1"), [(0, "a", None), (2, None, "invalid_utf8")]),
        "a BOM": (BOM + b"a\nb\n", [(0, "a", None), (5, "b", None)]),
        "a BOM in the middle": (b"a\n" + BOM + b"b\n", [(0, "a", None), (2, "\ufeffb", None)]),
        "JSON lines": (GOOD, [(0, GOOD[:-1].decode(), None)]),
        "no byte": (b"", []),
    }  # fmt: skip
    for name, (data, due) in found.items():
        right = Rows(tuple((f"a.txt@{at}", text, kind) for at, text, kind in due))
        yield Case(f"text: {name}", "a.txt", lambda data=data: data, right, options=PLAIN)  # type: ignore[misc]


def _encodings() -> Iterator[Case]:
    """UTF-8 with a mark, and UTF-16 and UTF-32 with and without."""
    contents = {"a.jsonl": GOOD.decode(), "a.csv": "id,text\n1,a\n", "a.tsv": "id\ttext\n1\ta\n", "a.txt": "a\n"}
    contents["b.txt"] = "“Ah” — she went to 東京.\n"  # what UTF-16 has no zeros for at the very beginning
    for name, content in contents.items():
        plain = name.endswith(".txt")
        due: Rows = rows((f"{name}@0", content.strip(), None)) if plain else rows("a")
        options = PLAIN if plain else {}
        yield Case(f"{name}: a BOM", name, lambda c=content: BOM + c.encode(), due, options=options)  # type: ignore[misc]
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")[
            : 3 if name == "b.txt" else None
        ]:
            said = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
            right = Refused(f"byte 0: the file is {said}, not UTF-8; convert it")
            for suffix in ("", ".gz"):
                pack = PACK.get(suffix, bytes)
                yield Case(
                    f"{name}{suffix}: {encoding}", name + suffix,
                    partial(_encoded, 2 * content, encoding, pack),
                    right, options=options,
                )  # fmt: skip


def _encoded(content: str, encoding: str, pack: Callable[[bytes], bytes]) -> bytes:
    return pack(content.encode(encoding))


def _long() -> Iterator[Case]:
    """Texts over the cap are rows to set aside; lines without end are passed over, whatever their length."""
    cap = {"max_text_bytes": CAP}
    long = json.dumps({"id": "2", "text": "é" * (CAP // 2 + 1)}, ensure_ascii=False).encode() + b"\n"
    fits = json.dumps({"id": "2", "text": "é" * (CAP // 2)}, ensure_ascii=False).encode() + b"\n"
    yield _jsonl("a text at the cap", GOOD + fits, rows("a", "é" * (CAP // 2)), rows=cap)
    yield _jsonl("a text over the cap", GOOD + long, rows("a", ("2", None, "oversize")), rows=cap)
    blank = GOOD + b" " * 5 * CAP + b"\n" + GOOD
    aside = rows("a", (None, None, "oversize"), ("1", "a", None))
    yield _jsonl("a line over four times the cap", blank, aside, rows=cap)
    refused = Refused("byte 25: the text is longer than rows.max_text_bytes", rows("a").rows)
    yield _jsonl("a refused text over the cap", GOOD + long, refused, rows={**cap, "oversize": "refuse"})
    ten = json.dumps({"id": "2", "text": "ten megabytes " * 750_000}).encode() + b"\n"
    yield _jsonl("ten megabytes on a line", GOOD + ten + GOOD, Counts({"": 2, "oversize": 1}))
    yield _jsonl("seven megabytes on a line", GOOD + ten.replace(b" megabytes", b" mega"), Counts({"": 2}))
    for what, data, good in (
        ("ten megabytes on a line", b"a\n" + b"x" * 10_000_000 + b"\nb\n", 2),
        ("no line end in forty megabytes", b"a\n" + b"x" * 40_000_000, 1),
    ):
        yield Case(f"text: {what}", "a.txt", lambda d=data: d, Counts({"": good, "oversize": 1}), options=PLAIN)  # type: ignore[misc]
