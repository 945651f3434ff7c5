"""Every format cut off at every sixteenth of its length, grown by rubbish, and with bits turned over."""

import csv
import io
import json
from collections.abc import Iterator
from functools import partial

import pyarrow.parquet as pq
from faults.corpus.case import Case, Refused, Row, Rows
from faults.corpus.formats import FILES, GROUP_ROWS, IDS, TEXTS, arrow, due_rows, jsonl, options_of, parquet, table

PARTS = 16
BROKEN = r"can't be read: .+; restore or replace the file|not a readable \w+ file: .+|the (gzip|zstd) stream is damaged"


def cases() -> Iterator[Case]:
    """Cut and grown files."""
    for name, write in FILES.items():
        size = len(write())
        for part in range(PARTS):
            yield Case(
                f"{name} cut at {part}/{PARTS}", name, partial(_cut, name, part), _due(name, write()[: size * part // PARTS]),
                options=options_of(name),
            )  # fmt: skip
    for name in FILES:
        if ".txt" not in name and ".csv" not in name and ".tsv" not in name:
            yield Case(f"{name} with rubbish behind it", name, partial(_grown, name), _grown_due(name))
    yield from _flips()


def _cut(name: str, part: int) -> bytes:
    data = FILES[name]()
    return data[: len(data) * part // PARTS]


def _grown(name: str) -> bytes:
    return FILES[name]() + b"\x7frubbish that was never written\xff"


def _grown_due(name: str) -> Refused:
    if name == "a.jsonl":
        return Refused(rf"byte {len(jsonl()):,}: the line is not a JSON object", tuple(due_rows(name)))
    return Refused(BROKEN + r"|the file goes on")


def _due(name: str, data: bytes) -> Rows | Refused:
    """What is right for the beginning of a file."""
    if name == "a.jsonl":
        return _due_jsonl(data)
    if name in ("a.csv", "a.tsv"):
        return _due_table(data, "," if name == "a.csv" else "\t")
    if name == "a.txt":
        return _due_text(name, data)
    if not data:
        return Refused(r"is empty: 0 bytes are no \w+ file")
    return Refused(BROKEN + r"|has no end mark")


def _due_jsonl(data: bytes) -> Rows | Refused:
    whole, _, rest = data.rpartition(b"\n")
    found = tuple((row["id"], row["text"], None) for row in map(json.loads, whole.split(b"\n") if whole else ()))
    return Refused(rf"byte {len(data) - len(rest):,}: the line is not a JSON object", found) if rest else Rows(found)


def _due_table(data: bytes, delimiter: str) -> Rows | Refused:
    if data.count(b'"') % 2:
        return Refused("unexpected end of data|the header: unexpected end of data")
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter))
    if not rows:
        return Rows(())
    if len(rows[0]) < 2:
        return Refused("there is no column 'text'")
    if len(rows[-1]) < 2:
        return Refused(rf"row {len(rows) - 2}: {len(rows[-1])} fields, but the header names 2")
    return Rows(tuple((row[0], row[1], None) for row in rows[1:]))


def _due_text(name: str, data: bytes) -> Rows:
    """A text that was cut reads as a shorter one; only half a character shows."""
    found: list[Row] = []
    offset = 0
    for line in data.split(b"\n")[: None if not data.endswith(b"\n") else -1] if data else ():
        try:
            found.append((f"{name}@{offset}", line.decode(), None))
        except UnicodeDecodeError:
            found.append((f"{name}@{offset}", None, "invalid_utf8"))
        offset += len(line) + 1
    return Rows(tuple(found))


def _flips() -> Iterator[Case]:
    """One bit of a page's data: seen where there are checksums; without any it is another letter."""
    for codec in ("none", "snappy", "gzip", "zstd"):
        data = parquet(compression=codec)
        why = r"row group {} can't be read: .*(?i:crc|checksum)"
        for group in range(2):
            for column in range(2):
                at = _page(data, group, column)
                yield Case(
                    f"a bit of column {column} in row group {group} turned over, {codec}, with checksums",
                    "a.parquet", partial(_flipped, codec, at), Refused(why.format(group), _other_group(group)),
                )  # fmt: skip
    texts = list(TEXTS)
    texts[0] = "qlain" + texts[0][5:]
    yield Case(
        "a bit of a text turned over in Parquet without checksums", "a.parquet",
        partial(_first_letter, "parquet"), Rows(tuple((i, t, None) for i, t in zip(IDS, texts, strict=True))),
    )  # fmt: skip
    yield Case(
        "a bit of a text turned over in Arrow", "a.arrow",
        partial(_first_letter, "arrow"), Rows(tuple((i, t, None) for i, t in zip(IDS, texts, strict=True))),
    )  # fmt: skip
    for at in (-1, -5, -8):
        yield Case(
            f"byte {at} of a gzip file turned over",
            "a.jsonl.gz",
            partial(_gzip_end, at),
            Refused("the gzip stream is damaged"),
        )


def _page(data: bytes, group: int, column: int) -> int:
    chunk = pq.read_metadata(io.BytesIO(data)).row_group(group).column(column)
    return int(chunk.dictionary_page_offset + chunk.total_compressed_size - 2)


def _other_group(group: int) -> tuple[Row, ...]:
    """Rows that the bit in this row group leaves alone."""
    found = tuple(due_rows("a.parquet"))
    return found[:GROUP_ROWS] if group else found[GROUP_ROWS:]


def _flipped(codec: str, at: int) -> bytes:
    data = bytearray(parquet(compression=codec))
    data[at] ^= 1
    return bytes(data)


def _first_letter(kind: str) -> bytes:
    data = bytearray(
        parquet(compression="none", use_dictionary=False, write_page_checksum=False, write_statistics=False)
        if kind == "parquet"
        else arrow(table())
    )
    data[data.index(b"plain 1 ")] ^= 1
    return bytes(data)


def _gzip_end(at: int) -> bytes:
    data = bytearray(FILES["a.jsonl.gz"]())
    data[at] ^= 1
    return bytes(data)
