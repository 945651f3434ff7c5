"""A sample of published rows made again from the source: the text's hash, and the vector in float32."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.check.files import SampledRow
from pipeline.check.ledger import Ledger
from pipeline.check.model import embed_again, find_model, other_files
from pipeline.check.report import Check, Findings, unchecked
from pipeline.check.source_rows import UNREADABLE, RawRow, Window, kind_of, read_rows
from pipeline.check.source_text import columns_of, folder_values, id_of, text_of, with_folders
from pipeline.errors import EmbedpipeError, first_line
from pipeline.storage.inputs import open_input

MIN_COSINE = {"gated": 0.9999, "exact": 0.999999}
"""The parity gate's bound for each precision."""


@dataclass(frozen=True, slots=True)
class Matched:
    """A sampled row and the text it was made from."""

    row: SampledRow
    text: str


def check_sample(ledger: Ledger, rows: Sequence[SampledRow], model: str | None) -> tuple[Check, ...]:
    """Checks `sample texts` and `sample vectors` over `rows`. `model`: a directory instead of the recorded name."""
    if not rows:
        reason = "the snapshot has no row to sample"
        return unchecked("sample texts", reason), unchecked("sample vectors", reason)
    findings = Findings()
    unread: list[str] = []
    matched: list[Matched] = []
    texts = _source_texts(ledger, rows, unread)
    prompt = ledger.recipe["prompt"]
    for index, row in enumerate(rows):
        candidates = texts.get(index)
        if candidates is None:
            continue
        text = next((text for text in candidates if text_hash(prompt + text) == row.text_hash), None)
        if text is None:
            reason = "its text_hash is not that of the source's text" if candidates else "its id is not in the source"
            findings.add("sample texts", f"{row.place}, id {row.id!r}: {reason}")
        else:
            matched.append(Matched(row, text))
    return _texts_verdict(findings, len(rows), unread), _check_vectors(ledger, matched, findings, model)


def text_hash(text: str) -> str:
    """The hash of a text with its prompt: 32 hexadecimal characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _texts_verdict(findings: Findings, total: int, unread: Sequence[str]) -> Check:
    if findings.counts["sample texts"] or not unread:
        return findings.check("sample texts", f"{total} rows found again in the source")
    return unchecked("sample texts", f"{len(unread)} of {total} sampled rows have no readable source any more", unread)


def _source_texts(ledger: Ledger, rows: Sequence[SampledRow], unread: list[str]) -> dict[int, list[str]]:
    """Texts the source has under the ids of `rows`, by index into `rows`; no entry where the source can't be read."""
    wanted: dict[tuple[str, str, Window], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        for span in ledger.units[row.unit]["spans"]:
            window = Window(span["measure"], span["start"], span["stop"])
            wanted[span["uri"], span["version"], window].append(index)
    texts: dict[int, list[str]] = {}
    for (uri, version, window), indices in wanted.items():
        try:
            for index, text in _search(ledger, uri, version, window, {i: rows[i].id for i in indices}):
                texts.setdefault(index, []).append(text)
        except (EmbedpipeError, *UNREADABLE) as error:
            unread.extend(f"{rows[index].place}: {error}" for index in indices if index not in texts)
            continue
        for index in indices:
            texts.setdefault(index, [])
    return texts


def _search(
    ledger: Ledger, uri: str, version: str, window: Window, ids: Mapping[int, int | str]
) -> Iterator[tuple[int, str]]:
    """(index, text) of each row in a window of a file whose id is among `ids`."""
    by_id: dict[int | str, list[int]] = defaultdict(list)
    for index, row_id in ids.items():
        by_id[row_id].append(index)
    reader = ledger.recipe["reader"]
    kind = kind_of(uri, reader["format"])
    if kind is None:
        return
    column = ledger.layout["id"]["column"]
    positions = {} if column else _by_position(uri, by_id)
    folders = folder_values(uri)
    with open_input(uri, version) as file:
        columns = columns_of(ledger.recipe["text"], column)
        longest = 4 * reader["max_text_bytes"]
        for found_row in read_rows(file, kind, reader["csv_delimiter"], columns, window, longest):
            raw = with_folders(found_row, folders)
            found = _under_id(by_id, id_of(raw, column)) if column else _at_position(raw, positions)
            if found and (text := text_of(raw, ledger.recipe["text"])) is not None:
                yield from ((index, text) for index in found)


def _by_position(uri: str, by_id: Mapping[int | str, list[int]]) -> dict[tuple[str, int], list[int]]:
    """Generated ids, `<path>#<row>` or `<path>@<byte>`, that can belong to `uri`."""
    positions: dict[tuple[str, int], list[int]] = {}
    for row_id, indices in by_id.items():
        name = str(row_id)
        mark = "#" if name.rfind("#") > name.rfind("@") else "@"
        path, _, number = name.rpartition(mark)
        if path and number.isdigit() and (uri == path or uri.endswith("/" + path)):
            positions.setdefault((mark, int(number)), []).extend(indices)
    return positions


def _under_id(by_id: Mapping[int | str, list[int]], row_id: int | str | None) -> list[int]:
    return [] if row_id is None else by_id.get(row_id, [])


def _at_position(raw: RawRow, positions: Mapping[tuple[str, int], list[int]]) -> list[int]:
    return positions.get(("#", raw.row), []) + positions.get(("@", raw.offset), [])


def _check_vectors(ledger: Ledger, matched: Sequence[Matched], findings: Findings, model: str | None) -> Check:
    """Check `sample vectors`: cosine with float32 sentence-transformers at least the gate's bound."""
    name = "sample vectors"
    if not matched:
        return unchecked(name, "no sampled row could be matched with its source text")
    directory = find_model(ledger, model)
    if directory is None:
        recorded = ledger.entry["facts"].get("model")
        return unchecked(name, f"the model {recorded!r} is not on this machine; name its directory")
    if difference := other_files(directory, ledger.recipe["model"]["files"]):
        return unchecked(name, f"{directory} is not the model the vectors were made with: {difference}")
    try:
        due = embed_again(directory, ledger, [item.text for item in matched])
    except Exception as error:  # of libraries that don't take it any more, or a machine that is too small for it
        return unchecked(name, f"{directory} can't be run on this machine: {first_line(error, named=True)}")
    bound = MIN_COSINE[ledger.recipe["precision"]]
    lowest = 1.0
    for item, vector in zip(matched, due, strict=True):
        cosine = _cosine(item.row.vector, vector)
        lowest = min(lowest, cosine)
        if not cosine >= bound:
            findings.add(name, f"{item.row.place}, id {item.row.id!r}: cosine {cosine:.6f}, the bound is {bound}")
    well = f"{len(matched)} rows embedded again in float32: lowest cosine {lowest:.6f}, the bound is {bound}"
    return findings.check(name, well)


def _cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Cosine in float64; 1 for two zero vectors, 0 for one."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(a @ b) / lengths
