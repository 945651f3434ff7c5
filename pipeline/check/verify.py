"""Verify a published snapshot against its records, its source and its model, independently of what wrote it.

records    log entry, manifest and spec agree; units, slices and spans leave no gap and no overlap
files      size, sha256, footer, page checksums, columns, partition folders
rows       ids, text hashes, token counts, vectors
source     rows counted again where the file is still the version that was read
sample     rows read again from the source, hashed, embedded in float32 and compared
"""

import os
import random
from collections.abc import Iterator

from pipeline.check.books import check_books
from pipeline.check.files import SampledRow, check_files, spread_picks
from pipeline.check.ids import IdCounter
from pipeline.check.ledger import Ledger, newest_version, read_ledger
from pipeline.check.report import Check, Findings, Report, unchecked
from pipeline.check.rows import RowRules
from pipeline.check.sample import check_sample, text_hash
from pipeline.check.source import check_source
from pipeline.storage.open import open_store
from pipeline.storage.store import Store

THREADS = min(8, os.cpu_count() or 1)
"""Files read at a time; each takes the memory of one row group (about 64 MiB, and its raw pages)."""


def verify(output: str, *, sample: int = 0, source: bool = True, model: str | None = None) -> Report:
    """Check the newest snapshot of `output`.

    `sample`: rows to make again from their source. `source`: whether to count source rows. `model`: directory to use
    for the sample when the recorded model can't be found under its name.
    Raises InputError when nothing was published, VerificationError when log or spec can't be read at all,
    StorageError when the store can't be.
    """
    store = open_store(output)
    version = newest_version(store)
    while True:
        report = _verify_version(store, version, sample, source, model)
        newest = newest_version(store)
        lost = any(check.name in ("manifest", "files present") for check in report.failed)
        if not lost or newest == version:
            return report
        version = newest  # overtaken: a newer snapshot made this one's files deletable


def _verify_version(store: Store, version: int, sample: int, source: bool, model: str | None) -> Report:
    findings = Findings()
    ledger = read_ledger(store, version, findings)
    if ledger is None:
        made = _RECORDS[: 3 if findings.counts["spec"] else 2]
        reason = "the records say what there is to check, and one of them can't be relied on"
        return Report(store.root, version, (*_verdicts(findings, made), unchecked("all else", reason)))
    check_books(ledger, findings)
    checks = list(_verdicts(findings, _RECORDS))
    rows, content = _check_content(store, ledger, sample)
    checks.extend(content)
    checks.append(_check_mark(store, ledger))
    if source:
        checks.extend(check_source(ledger, THREADS))
    if sample:
        checks.extend(check_sample(ledger, rows, model))
    return Report(store.root, version, tuple(checks))


_RECORDS = (
    ("log", "the newest log entry is sound"),
    ("manifest", "the manifest is the one the log names"),
    ("spec", "the spec is the one the log names"),
    ("totals", "the manifest adds up to the log's totals"),
    ("units", "every unit is there once"),
    ("balance", "rows in = rows out + rows quarantined, in every unit"),
    ("slices", "every row of every file belongs to one unit"),
    ("spans", "the units of every segment read all of it, once"),
    ("coverage", "the segments of every source file cover it, once"),
)
_FILES = (
    ("files present", "every data file is there"),
    ("file sizes", "every data file has its size"),
    ("sha256", "every data file has its sha256"),
    ("footers", "every footer has the manifest's rows and the spec's identity"),
    ("pages", "every page can be read and matches its checksum"),
    ("schema", "the same columns in the same order in every file"),
    ("partitions", "every file lies in the folders of its partition columns"),
    ("rows", "every file holds the manifest's rows"),
    ("pairing", "ids and text hashes are those the units were committed with"),
    ("ids present", "no id is null or empty"),
    ("text hashes", "every text hash has 32 hexadecimal characters"),
    ("token counts", "every row with text has tokens"),
    ("truncation", "`truncated` agrees with the token counts"),
    ("dimensions", "every vector has the spec's dimensions"),
    ("finite", "no vector has NaN or infinity"),
    ("norms", "vectors are of length 1 where the model normalises"),
)


def _verdicts(findings: Findings, names: tuple[tuple[str, str], ...]) -> Iterator[Check]:
    return (findings.check(name, well) for name, well in names)


def _check_content(store: Store, ledger: Ledger, sample: int) -> tuple[list[SampledRow], list[Check]]:
    """Every file and every row; the sampled rows come along."""
    total = sum(file.rows for file in ledger.files.values())
    chosen = random.Random(ledger.entry["manifest"]["sha256"]).sample(range(total), min(sample, total))
    picks = spread_picks(list(ledger.files.values()), chosen)
    recipe = ledger.recipe
    rules = RowRules(ledger.dimensions, ledger.normalized, recipe["max_tokens"], text_hash(recipe["prompt"]))
    findings, digests = Findings(), 0
    rows: list[SampledRow] = []
    with IdCounter() as ids:
        for result in check_files(store, ledger, rules, picks, ids, THREADS):
            findings.merge(result.findings)
            rows.extend(result.sampled)
            digests += result.digests
        checks = [*_verdicts(findings, _FILES), _check_unique(ledger, ids), _check_quarantine(store, ledger)]
    return rows, [_honest_pairing(check, ledger, digests) for check in checks]


def _honest_pairing(check: Check, ledger: Ledger, digests: int) -> Check:
    """Say how much of `pairing` could be checked."""
    due = [unit for unit in ledger.units if unit["rows_out"]]
    if check.name != "pairing" or not check.passed or digests == len(due):
        return check
    open_units = len(due) - digests
    spread = sum(1 for unit in due if len(unit["slices"]) > 1)
    causes = {
        "are spread over several files": spread,
        "are missing, or in a file that can't be read": open_units - spread,
    }
    told = "; ".join(f"the rows of {count} {what}" for what, count in causes.items() if count > 0)
    reason = f"{open_units} of {len(due)} units can't be checked: {told}"
    return unchecked("pairing", reason) if not digests else Check("pairing", True, f"{check.detail}; {reason}", 0)


def _check_unique(ledger: Ledger, ids: IdCounter) -> Check:
    """Check `ids unique`: generated ids must be; ids of a column are counted, as the source may repeat them."""
    count, examples = ids.duplicates()
    if not count:
        return Check("ids unique", True, "no id is there twice", 0)
    detail = f"{count} rows repeat an earlier row's id: {', '.join(examples)}" + (" …" if count > len(examples) else "")
    if ledger.layout["id"]["column"] is None:
        return Check("ids unique", False, detail, count)
    return Check("ids unique", True, f"{detail}; ids come from the source, which may repeat them", count)


def _check_quarantine(store: Store, ledger: Ledger) -> Check:
    """Check `quarantine`: rejected rows are still kept aside where the manifest says."""
    findings = Findings()
    kept = [unit for unit in ledger.units if unit["rows_quarantined"]]
    there = {entry.key for entry in store.list("_embedpipe/quarantine/") if entry.size} if kept else set()
    for unit in kept:
        if unit["quarantine"] not in there:
            findings.add("quarantine", f"unit {unit['unit']}: {unit['rows_quarantined']} rejected rows are not there")
    return findings.check("quarantine", f"the rejected rows of {len(kept)} units are there")


def _check_mark(store: Store, ledger: Ledger) -> Check:
    """Check `glob`: where `_SUCCESS` stands, data/ holds the snapshot's files and nothing else."""
    findings = Findings()
    if store.get("_SUCCESS") is None:
        return Check("glob", True, "there is no _SUCCESS, which promises nothing to a plain glob: read by manifest", 0)
    found = {entry.key for entry in store.list("data/")}
    for key in sorted(found ^ ledger.files.keys()):
        where = "not of the snapshot" if key in found else "not there"
        findings.add("glob", f"_SUCCESS stands although {key} is {where}")
    return findings.check("glob", "_SUCCESS stands, and data/ holds the snapshot's files only")
