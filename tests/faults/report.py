"""The tables of docs/reliability.md, made from docs/reliability.json: `python -m faults.report` writes them anew."""

from collections.abc import Iterator, Mapping

from faults import ledger
from faults.chaos.strikes import HOLDER, PAIRS

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
    ("sweep", "all_points", "points there are: each operation of each run, each kind of fault, local and on S3"),
    ("sweep", "unfired", "points tried whose moment never came, not counted above"),
    ("sweep", "double_faults", "jobs with a second fault at another point"),
    ("chaos", "kills", "processes killed under real Ray jobs"),
    ("chaos", "kills.*", "of them by phase"),
    ("chaos", "victim.*", "of them by victim"),
    ("chaos", "zombies", "processes stopped beyond their deadline, continued when a run had ended well, and heard of after that"),
    ("chaos", "stopped.killed", "others that the watchdog killed while they were stopped"),
    ("chaos", "stopped.gone", "others that went with their cluster meanwhile"),
    ("chaos", "stopped.idle", "others that did nothing more, or that nobody had gone on without"),
    ("chaos", "rounds", "rounds, each with an input and an output of its own"),
    ("chaos", "rounds.*", "of them with collections beside the runs, on S3, with two drivers of one spec, of two specs"),
    ("chaos", "rows", "rows embedded under all that"),
    ("chaos", "polls", "looks of a reader meanwhile: a new version is read whole, later every file's mark is compared"),
    ("chaos", "partial_reads", "of them that saw anything but one whole version"),
    ("chaos", "runs", "runs of a job"),
    ("chaos", "exits.*", "of them by exit code: 0 is done, 4 is to be run again, -9 was killed"),
    ("chaos", "failed_runs", "jobs that did not end well within the re-runs they were given"),
    ("poison", "poisonous_rows", "rows that kill, hang or exhaust the process that encodes them, or have no finite vector"),
    ("poison", "poisonous_rows.*", "of them by kind"),
    ("poison", "nan_in_company_rows", "others that are not finite in company only, and must keep the vector they have alone"),
    ("poison", "not_isolated", "of them not set aside alone with their reason"),
    ("poison", "ray_jobs", "jobs with them on Ray"),
    ("poison", "serial_jobs", "jobs with them without Ray"),
    ("poison", "unended", "jobs over them that did not end well within the re-runs they were given"),
    ("poison", "over_attempts", "of them that cost more than 2·log2(n) + 2 attempts (3 if a lone text was killed or hung)"),
    ("store", "jobs", "jobs on a store that misbehaves"),
    ("store", "radosgw_jobs", "of them on radosgw, the others on moto"),
    ("store", "requests", "requests in them"),
    ("store", "faults.*", "answers spoiled"),
    ("store", "timed_pairs", "jobs timed with a quiet store and with one that answers 503 to 30% all along"),
    ("store", "timed_quiet_ms", "milliseconds they took together, quiet"),
    ("store", "timed_busy_ms", "milliseconds they took together, with 503"),
    ("store", "timed_store_ms", "milliseconds they took together, with 503 and an encoder that takes none"),
    ("store", "uploads_left", "multipart uploads left open: none is ever begun, everything is written by one request"),
    ("corpus", "bad_files", "bad and odd input files"),
    ("corpus", "fuzzed_files", "mutated input files"),
    ("corpus", "wrong", "of both neither read right nor refused with file, place and reason"),
    ("corpus", "crashes", "of both that ended the process that read them"),
    ("corpus", "over_memory", "of both that took more memory than they may"),
    ("corpus", "over_time", "of both that took more time than they may"),
    ("ground", "ground_cases", "jobs whose ground changed under them or between two runs"),
    ("ground", "ground_cases.*", "of them by what changed"),
    ("ground", "unstruck", "others that were over before it would have"),
    ("ground", "stuck", "jobs that a re-run did not mend"),
    ("ground", "mixed", "files published with rows of two states or two models"),
    ("security", "security_cases", "security cases"),
    ("security", "all_security_cases", "security cases there are"),
    ("security", "searches.*", "jobs all of whose files were searched for secrets, unpacked, by engine"),
    ("security", "security_violations", "of them with something done or said that must not be"),
    ("security", "canaries_fired", "canaries fired"),
    ("security", "secrets_found", "secrets found in anything written"),
    ("repeats", "repeats", "runs of the Ray share of `make test-faults`, one after the other"),
    ("repeats", "repeats_failed", "of them that failed"),
)  # fmt: skip
"""(part, count, what it is); a count ending in `.*` stands for all that begin like that."""

EVERYWHERE = (
    ("violations", "violations of an invariant, or of anything else that was checked"),
    ("lost", "rows lost"),
    ("duplicated", "rows there twice"),
    ("mispaired", "rows with vector, hash, token count or kept column of another one, or of no row of the source"),
    (
        "unreadable",
        "outputs whose newest version can't be read as its records say: a file gone, a hash or a count wrong",
    ),
    ("leftovers", "objects left behind after collection"),
    ("wrong_exits", "commands that ended with an exit code that does not tell what happened to them"),
    ("tracebacks", "commands that ended with a traceback"),
    ("chunks_failed", "chunks of this soak that ended before they could tell what they found"),
)

MUST_BE_ZERO = frozenset(
    [
        "violations",
        "mutants_alive",
        "partial_reads",
        "failed_runs",
        "not_isolated",
        "unended",
        "over_attempts",
        "unfired",
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
        "repeats_failed",
    ]
) | {name for name, _ in EVERYWHERE}


def wrong(counts: Mapping[str, int]) -> dict[str, int]:
    """Of these counts what must be 0 and isn't."""
    return {name: count for name, count in counts.items() if count and name in MUST_BE_ZERO}


def findings(part: str) -> dict[str, int]:
    """What was found wrong with a part's code as it is now; points of two lists, which don't add up to either, are so too."""
    counts = ledger.counts(part)
    lists = sum(name.startswith("cases.") for name in counts)
    return wrong(counts) | ({"lists": lists} if lists > 1 else {})


def table() -> str:
    """Markdown: of each part what was counted for its code as it is now or, where that is nothing yet, was before."""
    versions = {part: ledger.newest(part) for part in ledger.PARTS}
    every = {part: ledger.counts(part, version) for part, version in versions.items() if version}
    lines = ["| part | its code | hours | |", "|---|---|---:|---|"]
    lines += [f"| {part} | {_state(part, version)} |" for part, version in versions.items()]
    if every:
        lines += ["", "| | |", "|---|---:|", *(f"| {text} | {shown} |" for text, shown in _rows(every))]
    if every.get("chaos"):
        lines += ["", *_matrix(every["chaos"])]
    return "\n".join(lines)


def _state(part: str, version: str) -> str:
    if not version:
        return "| | nothing was counted yet: `make soak`"
    note = "" if version == ledger.version_of(part) else "the code has changed since; `make soak` counts anew"
    return f"`{version}` | {ledger.seconds(part, version) / 3600:.1f} | {note}"


def _rows(every: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str]]:
    for part, name, text in ROWS:
        counts = every.get(part, {})
        if name.endswith(".*"):
            kinds = {key.removeprefix(name[:-1]): n for key, n in sorted(counts.items()) if key.startswith(name[:-1])}
            shown = ", ".join(f"{kind} {n:,}" for kind, n in kinds.items() if "." not in kind)
            if shown:
                yield text, shown
        elif name in counts:
            yield text, _shown(name, counts[name])
    for name, text in EVERYWHERE:
        looked = {part: counts[name] for part, counts in every.items() if name in counts}
        if looked:  # else nobody has looked for it yet
            yield f"{text} ({', '.join(looked)})", _shown(name, sum(looked.values()))


def _matrix(counts: Mapping[str, int]) -> Iterator[str]:
    """Who was killed in which phase; empty where nobody can be."""
    victims = list(
        dict.fromkeys(victim for _, victim in sorted(PAIRS, key=lambda pair: pair[1] not in HOLDER.values()))
    )
    yield f"| killed while | {' | '.join(victims)} |"
    yield f"|---|{'---:|' * len(victims)}"
    for phase in HOLDER:
        shown = (f"{counts.get(f'kills.{phase}.{one}', 0):,}" if (phase, one) in PAIRS else "" for one in victims)
        yield f"| {phase} | {' | '.join(shown)} |"


def _shown(name: str, count: int) -> str:
    return f"**{count:,}**" if name in MUST_BE_ZERO else f"{count:,}"


def write() -> None:
    """Put the tables into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}")


if __name__ == "__main__":
    write()
