"""Jobs under random mixes of a store's misbehaviour, for as long as there is time; on radosgw too where it is installed."""

import contextlib
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from faults.ledger import Chunk
from faults.store import radosgw
from faults.store.bench import KEYS, SETTINGS, Bench, change, open_bench, through, workplace
from faults.store.mixes import BODY, random_mix
from faults.store.proxy import FaultProxy, fault_proxy
from faults.store.rules import Rule
from support.models import find_minilm, save_tiny_bert
from support.s3 import s3_server

log = logging.getLogger(__name__)

TRIES = 6  # runs under faults for one snapshot; the one after them is spared
TIMED_SECONDS = 250  # a chunk that has them begins with a timed pair
SECONDS_PER_TEXT = 0.06  # 49 seconds for the whole job; what refusals cost it is more than half of that
TIMED_UNIT_ROWS = 30
REFUSALS = Rule("503 SlowDown", share=0.3)
MUST_BE_ZERO = (
    "lost", "duplicated", "mispaired", "unreadable", "leftovers", "uploads_left", "wrong_exits", "violations"
)  # fmt: skip
INCOMPLETE = 4
"""How a run may end that a store has failed: never as if its input, config or output were at fault."""


def soak(first: int, seconds: float) -> Chunk:
    """Cases from `first` on. Every other one goes to radosgw, where there is one."""
    deadline = time.monotonic() + seconds
    counts: Counter[str] = Counter(dict.fromkeys(("jobs", "requests", "radosgw_jobs", *MUST_BE_ZERO), 0))
    number = first
    with tempfile.TemporaryDirectory() as folder, _servers() as servers:
        model = _model(Path(folder))
        if seconds > TIMED_SECONDS:
            timed_pair(servers[0], model, counts)
        while time.monotonic() < deadline:
            work_case(number, servers[number % len(servers)], model, counts)
            number += 1
    return Chunk(number, dict(counts))


def work_case(number: int, server: tuple[str, str], model: str, counts: Counter[str]) -> None:
    """Two jobs on a bucket of their own under the mixes of this number. What is wrong is counted and logged, not raised."""
    kind, backend = server
    before = counts.copy()
    try:
        with fault_proxy(backend) as proxy, through(proxy), workplace():
            bench = open_bench(proxy, backend, model)
            _work(bench, random.Random(number), kind, counts)
            bench.close()
    except Exception:
        counts["violations"] += 1
        log.exception("store case %d on %s", number, kind)
    wrong = {name: counts[name] - before[name] for name in MUST_BE_ZERO if counts[name] > before[name]}
    if wrong:
        log.error("store case %d on %s: %s; again: soak(%d, 0.1)", number, kind, wrong, number)


def _work(bench: Bench, chance: random.Random, kind: str, counts: Counter[str]) -> None:
    """Two snapshots, each by as many runs as the faults make it take."""
    for step in range(2):
        for attempt in range(TRIES + 1):
            bench.proxy.script.set(_mix(chance, kind) if attempt < TRIES else [], seed=chance.randrange(2**32))
            ended = bench.run()
            _tally(bench.proxy, counts)
            counts["jobs"] += 1
            counts["radosgw_jobs"] += kind == "radosgw"
            if ended.code == 0:
                break
            if ended.code != INCOMPLETE:
                counts["wrong_exits"] += 1
                log.error("a run ended with %d: %s", ended.code, ended.message)
        else:
            counts["violations"] += 1
            log.error("a run without faults ended with %d: %s", ended.code, ended.message)
        if step == 0:
            change(bench)
    bench.well_again()
    _judge(bench, counts)
    bench.collect()
    left = bench.leftovers()
    counts["leftovers"] += len(left)
    counts["uploads_left"] += len(bench.uploads())
    for key in left:
        log.error("left after collection: %s", key)
    _judge(bench, counts)


def _mix(chance: random.Random, kind: str) -> list[Rule]:
    """On radosgw uploads are damaged too: unlike moto it checks them."""
    mix = random_mix(chance)
    if kind == "radosgw" and chance.random() < 0.5:
        mix.append(Rule("flipped upload", method="PUT", share=0.2, path=BODY["path"]))
    return mix


def _tally(proxy: FaultProxy, counts: Counter[str]) -> None:
    counts["requests"] += proxy.script.requests.total()
    for fault, times in proxy.script.injected.items():
        counts[f"faults.{fault}"] += times


def _judge(bench: Bench, counts: Counter[str]) -> None:
    verdict = bench.verdict()
    counts.update(verdict.counts)
    if not verdict.right:
        log.error("the published rows are wrong: %s", verdict)


def timed_pair(server: tuple[str, str], model: str, counts: Counter[str]) -> None:
    """A job with a quiet store, and with one that refuses 30% of all requests all along, which is over a minute. Pauses are as
    they are, and the encoder takes time, as jobs have one: what goes on beside it is the program's answer to a slow store.

    So that the limit of twice the time is one on the store, the same job is timed without the encoder's time too: what the
    store takes under refusals, alone. Were that to double, the limit would have to be passed; else the pair shows nothing.
    """
    jobs = [("quiet", SECONDS_PER_TEXT), ("busy", SECONDS_PER_TEXT), ("store", 0.0)]
    times = {name: _timed(name, server[1], model, seconds, counts) for name, seconds in random.sample(jobs, len(jobs))}
    _hold_against(times, counts)


def _hold_against(times: Mapping[str, float], counts: Counter[str]) -> None:
    """Judge a pair, and count it."""
    left = 2 * times["quiet"] - times["busy"]
    if left <= 0:
        counts["violations"] += 1
        log.error("under 30%% refusals a job took %.1f s instead of %.1f s", times["busy"], times["quiet"])
    elif left > times["store"]:
        log.error("a pair that shows nothing: %s; with a store twice as slow it would have been right too", times)
        return
    counts["timed_pairs"] += 1
    counts.update({f"timed_{name}_ms": round(1000 * seconds) for name, seconds in times.items()})


def _timed(name: str, backend: str, model: str, seconds_per_text: float, counts: Counter[str]) -> float:
    """Seconds of one job on a bucket of its own. What is wrong with it is counted."""
    refuses = name != "quiet"
    with (
        fault_proxy(backend) as proxy,
        through(proxy, FAULTS_ENCODE_S=str(seconds_per_text)),
        workplace(pause=True),
    ):
        bench = open_bench(proxy, backend, model)
        proxy.script.set([REFUSALS] if refuses else [], seed=random.randrange(2**32))
        begun = time.monotonic()
        ended = bench.run(units__rows=TIMED_UNIT_ROWS)
        took = time.monotonic() - begun
        refused, asked = proxy.script.injected[REFUSALS.fault], proxy.script.requests.total()
        bench.well_again()
        if ended.code != 0 or not bench.verdict().right or (refuses and refused < 0.2 * asked):
            counts["violations"] += 1
            log.error("the %s job ended with %d: %s; %d of %d refused", name, ended.code, ended.message, refused, asked)
        bench.close()
    return took


@contextmanager
def _servers() -> Iterator[list[tuple[str, str]]]:
    """(kind, endpoint) of the servers there are."""
    with ExitStack() as running:
        servers = [("moto", running.enter_context(s3_server()))]
        reason = radosgw.missing()
        if reason:
            log.warning("without radosgw: %s", reason)
        else:
            servers.append(("radosgw", running.enter_context(radosgw.radosgw(*(SETTINGS[key] for key in KEYS)))))
        yield servers


def _model(folder: Path) -> str:
    with contextlib.redirect_stderr(None):
        return save_tiny_bert(folder, find_minilm())
