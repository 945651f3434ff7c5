"""What columns and footers a snapshot's files must have, from the spec."""

import re
from urllib.parse import quote

import pyarrow as pa

from pipeline.check.ledger import Ledger
from pipeline.check.report import Findings

_OWN = ("embedding", "token_count", "truncated", "text_hash")


def check_schema(schema: pa.Schema, ledger: Ledger, key: str, findings: Findings) -> bool:
    """Check `schema`: exactly the columns of the layout, in its order, with its types; thus the same in all files."""
    expected = expected_columns(ledger)
    found = [(field.name, _readable(field.type)) for field in schema]
    if found == expected:
        return True
    difference = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None)
    if difference is None:
        findings.add("schema", f"{key} has {len(found)} columns instead of {len(expected)}")
        return False
    (name, kind), (wanted_name, wanted_kind) = difference
    findings.add("schema", f"{key} has column {name} ({kind}) where {wanted_name} ({wanted_kind}) is due")
    return False


def expected_columns(ledger: Ledger) -> list[tuple[str, str]]:
    """Name and type, as text, of each column of a data file."""
    layout = ledger.layout
    vector = f"fixed_size_list[{ledger.dimensions}]" if layout["vector_type"] == "fixed_size_list" else "list"
    kept = [(name, _neutral(kind)) for name, kind in layout["keep"] if name not in ledger.partition_by]
    own = zip(_OWN, (f"{vector} of float", "int32", "bool", "string"), strict=True)
    return [("id", layout["id"]["type"]), *kept, *own]


def _readable(kind: pa.DataType) -> str:
    """A type as text, the names of list elements left out."""
    if pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type):
        return f"fixed_size_list[{kind.list_size}] of {kind.value_type}"
    if pa.types.is_list(kind) and pa.types.is_float32(kind.value_type) and not kind.value_field.nullable:
        return f"list of {kind.value_type}"
    return _neutral(str(kind))


def _neutral(kind: str) -> str:
    """Parquet calls a list's element `element`, Arrow `item`: the same type."""
    return re.sub(r"<(item|element): ", "<", kind)


def check_footer(schema: pa.Schema, ledger: Ledger, key: str, findings: Findings) -> None:
    """Check `footers`: a file says of itself what the spec says."""
    metadata = schema.metadata or {}
    due = {
        "embedpipe.spec": str(ledger.entry["spec"]),
        "embedpipe.recipe": str(ledger.entry["recipe"]),
        "embedpipe.dimensions": str(ledger.dimensions),
        "embedpipe.normalized": str(ledger.normalized).lower(),
    }
    for name, value in due.items():
        found = metadata.get(name.encode(), b"").decode(errors="replace")
        if found != value:
            findings.add("footers", f"{key} says {name} = {found!r}, the spec {value!r}")


def check_folder(key: str, ledger: Ledger, findings: Findings) -> None:
    """Check `partitions`: the file lies below one `column=value` folder for each partition column, in their order."""
    folders = key.split("/")[1:-1]
    names = [folder.partition("=")[0] for folder in folders if "=" in folder]
    if len(names) != len(folders) or names != [quote(name, safe="") for name in ledger.partition_by]:
        findings.add("partitions", f"{key} lies in {folders}, the partition columns are {list(ledger.partition_by)}")
