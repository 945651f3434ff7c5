"""CSV and TSV: quotes, line ends, ragged rows and headers."""

from collections.abc import Iterator
from typing import Any

from faults.corpus.case import Case, Counts, Refused, Rows, rows

RAGGED = r"row 1: \d fields, but the header names 2"
NO_COLUMN = "there is no column 'text'"


def cases() -> Iterator[Case]:
    """All of them."""
    for name, data, right, more in (*_read(), *_refused()):
        yield Case(f"csv: {name}", "a.csv", lambda data=data: data, right, **more)  # type: ignore[misc]
        if b"," in data and b"\t" not in data and not more:
            swapped = data.replace(b",", b"\t")
            due = (
                Rows(tuple((i, t.replace(",", "\t") if t else t, k) for i, t, k in right.rows))
                if isinstance(right, Rows)
                else right
            )
            yield Case(f"tsv: {name}", "a.tsv", lambda data=swapped: data, due)  # type: ignore[misc]


Found = tuple[str, bytes, Rows | Refused | Counts, dict[str, Any]]


def _read() -> Iterator[Found]:
    read: dict[str, tuple[bytes, Rows]] = {
        "no line end": (b"id,text\n1,a", rows("a")),
        "CRLF": (b"id,text\r\n1,a\r\n", rows("a")),
        "lone CRs": (b"id,text\r1,a\r2,b\r", rows("a", "b")),
        "mixed line ends": (b"id,text\n1,a\r\n2,b\r3,c\n", rows("a", "b", "c")),
        "a line end in quotes": (b'id,text\n1,"a\nb"\n', rows("a\nb")),
        "a CRLF in quotes": (b'id,text\r\n1,"a\r\nb"\r\n', rows("a\r\nb")),
        "a lone CR in quotes": (b'id,text\n1,"a\rb"\n', rows("a\rb")),
        "doubled quotes": (b'id,text\n1,"say ""hi"""\n', rows('say "hi"')),
        "a delimiter in quotes": (b'id,text\n1,"a,b"\n', rows("a,b")),
        "a quote inside a field": (b'id,text\n1,5" disk\n', rows('5" disk')),
        "blanks around fields": (b"id,text\n 1 , a \n", rows((" 1 ", " a ", None))),
        "blank lines": (b"id,text\n\n1,a\n\n\n2,b\n\n", rows("a", "b")),
        "blank lines before the header": (b"\n\nid,text\n1,a\n", rows("a")),
        "header only": (b"id,text\n", rows()),
        "header without a line end": (b"id,text", rows()),
        "no byte": (b"", rows()),
        "a BOM before quotes": (b'\xef\xbb\xbf"id","text"\n"1","a"\n', rows("a")),
        "an empty text": (b"id,text\n1,\n", rows("")),
        "an empty id": (b"id,text\n,a\n", rows(("", None, "null_id"))),
        "an id that is a number elsewhere": (b"id,text\n00123,a\n1e3,b\n", rows(("00123", "a", None), ("1e3", "b", None))),
        "NULs": (b"id,text\n1,a\0b\n", rows("a\0b")),
        "U+2028 and U+0085": ("id,text\n1,a\u2028b\u0085c\n".encode(), rows("a\u2028b\u0085c")),
        "invalid UTF-8": (b"id,text\n1,a\n2,\xff\n", rows("a", ("2", None, "invalid_utf8"))),
        "invalid UTF-8 in an id": (b"id,text\n\xff,a\n", rows((None, None, "invalid_utf8"))),
        "names nobody asked for twice": (b"id,x,x,text\n1,2,3,a\n", rows("a")),
        "NULL in words": (b"id,text\n1,NULL\n2,NaN\n", rows("NULL", "NaN")),
        "an id with a line end": (b'id,text\n"1\n2",a\n', rows(("1\n2", "a", None))),
        "rows twice": (b"id,text\n1,a\n1,a\n", rows("a", ("1", "a", None))),
    }  # fmt: skip
    for name, (data, right) in read.items():
        yield name, data, right, {}
    yield "another delimiter", b"id;text\n1;a,b\n", rows("a,b"), {"options": {"csv_delimiter": ";"}, "company": False}
    many = b",".join(b"c%d" % n for n in range(3000))
    yield "three thousand columns", b"id,text," + many + b"\n1,a" + b",x" * 3000 + b"\n", rows("a"), {}
    big = b"id,text\n1," + b"x" * 10_000_000 + b"\n2,b\n"
    yield "ten megabytes in a field", big, Counts({"": 1, "oversize": 1}), {}


def _refused() -> Iterator[Found]:
    refused: dict[str, tuple[bytes, str]] = {
        "too few fields": (b"id,text\n1,a\n2\n", RAGGED),
        "too many fields": (b"id,text\n1,a\n2,b,c\n", RAGGED),
        "a lone CR outside quotes": (b"id,text\n1,a\n2,b\rc\n", r"row 2: 1 fields, but the header names 2"),
        "a quote that is never closed": (b'id,text\n1,a\n2,"b\n3,c\n', "row 1: unexpected end of data; check quotes"),
        "a quote closed too early": (b'id,text\n1,a\n2,"b"c\n', "row 1: .* expected after .*; check quotes"),
        "a header that is never closed": (b'"id,text\n1,a\n', "the header: unexpected end of data"),
        "a text column twice": (b"id,text,text\n1,a,b\n", "2 columns are called 'text'; rename all but one"),
        "an id column twice": (b"id,id,text\n1,2,a\n", "2 columns are called 'id'; rename all but one"),
        "no header": (b"1,a\n2,b\n", NO_COLUMN),
        "the wrong delimiter": (b"id;text\n1;a\n", NO_COLUMN),
        "other columns": (b"key,body\n1,a\n", NO_COLUMN),
        "names in capitals": (b"ID,Text\n1,a\n", NO_COLUMN + "; did you mean 'Text'"),
        "blanks in names": (b"id, text\n1,a\n", NO_COLUMN + "; did you mean ' text'"),
        "a NUL in a name": (b"id,te\0xt\n1,a\n", NO_COLUMN),
        "invalid UTF-8 in a name": (b"id,t\xffxt\n1,a\n", NO_COLUMN),
        "a comment before the header": (b"# made by hand\nid,text\n1,a\n", "no column 'text'|row 0: 2 fields"),
        "an endless name": (b"x" * 50_000 + b",id\n1,a\n", NO_COLUMN),
        "JSON lines": (b'{"id": "1", "text": "a"}\n' * 2, "no column 'text'|fields"),
        "a Parquet file": (b"PAR1\x15\x04,\n\"\xff,\nPAR1", "is a Parquet file, not lines of text"),
    }  # fmt: skip
    for name, (data, pattern) in refused.items():
        yield name, data, Refused(pattern), {}
    endless = b'id,text\n1,a\n2,"' + b"x, and so on and so forth\n" * 1_400_000
    yield (
        "a quote that is never closed in front of megabytes",
        endless,
        Refused("row 1: field larger than field limit"),
        {},
    )
