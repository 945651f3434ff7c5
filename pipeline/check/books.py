"""Does the manifest add up? Units once, slices and spans without gap or overlap, totals as the log says. No I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pipeline.check.ledger import Ledger
from pipeline.check.report import Findings

Unit = Mapping[str, Any]


def check_books(ledger: Ledger, findings: Findings) -> None:
    """Run every check of the records alone."""
    _check_totals(ledger, findings)
    _check_units(ledger.units, findings)
    _check_slices(ledger, findings)
    _check_spans(ledger, findings)
    _check_coverage(ledger, findings)


def _check_totals(ledger: Ledger, findings: Findings) -> None:
    """Check `totals`: the sums over the manifest are those of the log entry."""
    files, units = ledger.files.values(), ledger.units
    found = {
        "files": len(files),
        "rows": sum(file.rows for file in files),
        "bytes": sum(file.bytes for file in files),
        "units": len(units),
        "rows_in": sum(unit["rows_in"] for unit in units),
        "rows_quarantined": sum(unit["rows_quarantined"] for unit in units),
    }
    for name, value in found.items():
        if value != ledger.entry[name]:
            findings.add("totals", f"{name} is {value} in the manifest, {ledger.entry[name]} in the log")


def _check_units(units: Sequence[Unit], findings: Findings) -> None:
    """Checks `units` (each once) and `balance` (source rows = out + quarantined)."""
    for unit, times in Counter(unit["unit"] for unit in units).items():
        if times > 1:
            findings.add("units", f"unit {unit} is there {times} times")
    for unit in units:
        rows_in, out, quarantined = unit["rows_in"], unit["rows_out"], unit["rows_quarantined"]
        if rows_in != out + quarantined:
            findings.add("balance", f"unit {unit['unit']}: {rows_in} rows in, {out} out and {quarantined} quarantined")
        held = sum(part["rows"] for part in unit["slices"])
        if held != out:
            findings.add("balance", f"unit {unit['unit']}: {out} rows out, its slices hold {held}")


def _check_slices(ledger: Ledger, findings: Findings) -> None:
    """Check `slices`: every row of every data file belongs to exactly one unit."""
    for key, slices in ledger.slices.items():
        end = 0
        for part in slices:
            if part.first_row != end:
                low, high = sorted((part.first_row, end))
                findings.add("slices", f"{key}: rows {low} to {high} belong to {_none_or_two(part.first_row, end)}")
            end = part.first_row + part.rows
        if end != ledger.files[key].rows:
            findings.add("slices", f"{key}: has {ledger.files[key].rows} rows, its units hold {end}")


def _check_spans(ledger: Ledger, findings: Findings) -> None:
    """Check `spans`: a segment's units are 0, 1, … to the one with eof, and they read all rows of its pieces, once.

    A segment may be incomplete only where the log says that its file failed; a `--limit` may end one early. Bytes between
    spans may be blank lines, which are no rows: check `source gaps` looks at them.
    """
    for segment, members in by_segment(ledger.units).items():
        numbers = [unit["k"] for unit in members]
        ends = [unit["k"] for unit in members if unit["eof"]]
        if numbers != list(range(len(numbers))) or ends != numbers[-1:]:
            if not any(piece["uri"] in ledger.entry["failed"] for piece in members[0]["pieces"]):
                findings.add("spans", f"segment {segment}: units {numbers[:10]}, of which {ends[:10]} end it")
            continue
        for fault in _untiled(members, limited=ledger.entry["limit"] is not None):
            findings.add("spans", f"segment {segment}: {fault}")
    for uri, spans in spans_by_uri(ledger.units).items():
        for one, other in pairwise(spans):
            if other["start"] < one["stop"]:
                findings.add(
                    "spans", f"{uri}: {one['measure']} {other['start']} to {one['stop']} were read by two units"
                )


def by_segment(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    """Units by segment, in the order in which they were read."""
    segments: dict[str, list[Unit]] = defaultdict(list)
    for unit in sorted(units, key=lambda unit: int(unit["k"])):
        segments[unit["segment"]].append(unit)
    return segments


def spans_by_uri(units: Sequence[Unit]) -> dict[str, list[Mapping[str, Any]]]:
    """What was read of every source file, in the file's order; nothing for a file without rows."""
    spans: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for unit in units:
        for span in unit["spans"]:
            if span["stop"] > span["start"]:
                spans[span["uri"]].append(span)
    for parts in spans.values():
        parts.sort(key=lambda span: int(span["start"]))
    return spans


def _untiled(members: Sequence[Unit], *, limited: bool) -> Iterator[str]:
    """What the units of a complete segment left out of its pieces, or read besides."""
    pieces: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for piece in members[0]["pieces"]:
        pieces[piece["uri"]].append(piece)
    spans: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for unit in members:
        if unit["pieces"] != members[0]["pieces"]:
            yield f"unit {unit['k']} names other pieces than unit 0"
        for span in unit["spans"]:
            spans[span["uri"]].append(span)
    for uri in spans.keys() - pieces.keys():
        yield f"{uri} was read but is no piece of it"
    for uri, parts in pieces.items():
        if any(span["version"] != parts[0]["version"] for span in spans[uri]):
            yield f"{uri} was read in another version than planned"
        whole = {**parts[0], "stop": parts[-1]["stop"]}  # a limited run has all of a file's pieces in one segment
        yield from _gaps(uri, whole, [span for span in spans[uri] if span["measure"] == "rows"], limited=limited)


def _gaps(uri: str, piece: Mapping[str, Any], spans: Sequence[Mapping[str, Any]], *, limited: bool) -> Iterator[str]:
    """Rows that no unit or two units read. Of a piece measured in bytes the number of its last row is not known."""
    in_rows = piece["measure"] == "rows"
    end = piece["start"] if in_rows else 0
    for span in spans:
        start = span["start"]
        if start != end:
            yield f"{uri}: rows {min(end, start)} to {max(end, start)} were read by {_none_or_two(start, end)}"
        end = span["stop"]
    if in_rows and end != piece["stop"] and not limited:
        yield f"{uri}: read to row {end} of {piece['stop']}"


def _check_coverage(ledger: Ledger, findings: Findings) -> None:
    """Check `coverage`: the pieces of a file version tile it from its beginning to its end.

    Files of a `--limit` and those that failed are allowed to be there in part; a file in two versions never is.
    """
    pieces = {
        (piece["uri"], piece["version"], piece["start"], piece["stop"], piece["last"])
        for unit in ledger.units
        for piece in unit["pieces"]
    }
    by_uri: dict[str, list[tuple[str, int, int, bool]]] = defaultdict(list)
    for uri, version, start, stop, last in pieces:
        by_uri[uri].append((version, start, stop, last))
    for uri, parts in by_uri.items():
        partial = ledger.entry["limit"] is not None or uri in ledger.entry["failed"]
        parts.sort(key=lambda part: part[1:])
        if len({version for version, *_ in parts}) > 1:
            findings.add("coverage", f"{uri} is there in two versions")
        end = 0
        for _, start, stop, _ in parts:
            if start < end or (start > end and not partial):
                low, high = sorted((start, end))
                findings.add("coverage", f"{uri}: {low} to {high} is in {_none_or_two(start, end)}")
            end = stop
        if not parts[-1][-1] and not partial:
            findings.add("coverage", f"{uri}: the end of the file, from {end} on, is in no unit")


def _none_or_two(start: int, end: int) -> str:
    return "no unit" if start > end else "two units"
