"""The table of docs/reliability.md, made from docs/reliability.json: `python -m faults.report` writes it anew."""

from collections.abc import Iterator

from faults import ledger

PAGE = ledger.ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"

ROWS = (
    ("simulation", "seeds", "simulated histories of several runs on one output"),
    ("simulation", "operations", "store operations in them, the invariants checked after each that changes something"),
    ("simulation", "faults.*", "faults injected into them"),
    ("simulation", "mutants", "deliberately broken variants of the protocol"),
    ("simulation", "mutants_alive", "of them not noticed"),
    ("sweep", "points", "jobs that died or were lied to at one store operation, then were run again"),
    ("sweep", "points.*", "of them by kind"),
    ("chaos", "kills", "processes killed under real Ray jobs"),
    ("chaos", "kills.*", "of them by phase"),
    ("chaos", "victim.*", "of them by victim"),
    ("chaos", "zombies", "processes stopped beyond their deadline, continued when others had done their work"),
    ("chaos", "stopped.killed", "others that the watchdog killed while they were stopped"),
    ("chaos", "rows", "rows embedded under all that"),
    ("chaos", "polls", "looks of a reader meanwhile: a new version is read whole, later every file's mark is compared"),
    ("chaos", "partial_reads", "of them that saw anything but one whole version"),
    ("chaos", "bugs", "commands that ended as a bug"),
    ("chaos", "failed_runs", "jobs that did not end well within the re-runs they were given"),
    ("poison", "poisonous_rows", "rows that kill, hang or exhaust the process that encodes them"),
    ("poison", "not_isolated", "of them not set aside alone with their reason"),
    ("poison", "ray_jobs", "jobs with them on Ray"),
    ("poison", "serial_jobs", "jobs with them without Ray"),
    ("poison", "unended", "jobs over them that did not end well within the re-runs they were given"),
    ("poison", "over_attempts", "of them that cost more than 2·log2(n) + 2 attempts"),
    ("store", "jobs", "jobs on a store that misbehaves"),
    ("store", "radosgw_jobs", "of them on radosgw, the others on moto"),
    ("store", "requests", "requests in them"),
    ("store", "faults.*", "answers spoiled"),
    ("store", "timed_pairs", "jobs timed with a quiet store and with one that answers 503 to 30% for a minute"),
    ("store", "timed_quiet_ms", "milliseconds they took together, quiet"),
    ("store", "timed_busy_ms", "milliseconds they took together, with 503"),
    ("store", "uploads_left", "multipart uploads left open"),
    ("corpus", "bad_files", "bad and odd input files"),
    ("corpus", "fuzzed_files", "mutated input files"),
    ("corpus", "wrong", "of both neither read right nor refused with file, place and reason"),
    ("corpus", "crashes", "of both that ended the process that read them"),
    ("corpus", "over_memory", "of both that took more memory than they may"),
    ("corpus", "over_time", "of both that took more time than they may"),
    ("ground", "ground_cases", "jobs whose ground changed: sources, models, configs, clocks, disks"),
    ("ground", "stuck", "of them that a re-run did not mend"),
    ("ground", "mixed", "of them with rows of two states or two models"),
    ("security", "security_cases", "security cases"),
    ("security", "security_violations", "of them with something done or said that must not be"),
    ("security", "canaries_fired", "canaries fired"),
    ("security", "secrets_found", "secrets found in anything written"),
)  # fmt: skip
"""(part, count, what it is); a count ending in `.*` stands for all that begin like that."""

EVERYWHERE = (
    ("violations", "violations of an invariant, or of anything else that was checked"),
    ("lost", "rows lost, in all of the above"),
    ("duplicated", "rows there twice"),
    ("mispaired", "rows paired with the vector of another text"),
    ("leftovers", "objects left behind after collection"),
    ("tracebacks", "commands that ended with a traceback"),
)

MUST_BE_ZERO = frozenset(
    [
        "violations",
        "mutants_alive",
        "partial_reads",
        "failed_runs",
        "bugs",
        "not_isolated",
        "unended",
        "over_attempts",
        "uploads_left",
        "wrong",
        "crashes",
        "over_memory",
        "over_time",
        "stuck",
        "mixed",
        "canaries_fired",
        "security_violations",
        "secrets_found",
    ]
) | {name for name, _ in EVERYWHERE}


def table() -> str:
    """Markdown: the newest version of the protocol's code that anything was counted for, this one if possible."""
    versions = ledger.load()
    if not versions:
        return "Nothing was counted yet: `make soak`."
    current = ledger.protocol_version()
    version = (
        current
        if current in versions
        else max(versions, key=lambda name: max(e["at"] for e in versions[name].values()))
    )
    note = "" if version == current else " (the code has changed since; `make soak` counts anew)"
    hours = sum(entry["seconds"] for entry in versions[version].values()) / 3600
    lines = [f"Protocol code `{version}`{note}, {hours:.1f} hours.", "", "| | |", "|---|---:|"]
    lines.extend(f"| {text} | {shown} |" for text, shown in _rows(version))
    return "\n".join(lines)


def _rows(version: str) -> Iterator[tuple[str, str]]:
    every = {part: ledger.counts(part, version) for part, _, _ in ROWS}
    for part, name, text in ROWS:
        counts = every[part]
        if name.endswith(".*"):
            kinds = {key.removeprefix(name[:-1]): n for key, n in sorted(counts.items()) if key.startswith(name[:-1])}
            if kinds:
                yield text, ", ".join(f"{kind} {n:,}" for kind, n in kinds.items())
        elif name in counts:
            yield text, _shown(name, counts[name])
    for name, text in EVERYWHERE:
        yield text, _shown(name, sum(counts.get(name, 0) for counts in every.values()))


def _shown(name: str, count: int) -> str:
    return f"**{count:,}**" if name in MUST_BE_ZERO else f"{count:,}"


def write() -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}")


if __name__ == "__main__":
    write()
