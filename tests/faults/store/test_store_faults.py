"""Whole jobs on a store that misbehaves: every row there, once, with its own vector, and nothing left behind."""

from collections import Counter
from pathlib import Path

import pytest
from faults import oracle
from faults.store import radosgw
from faults.store.bench import Bench, Ended, change, through
from faults.store.mixes import MIXES
from faults.store.rules import Rule
from faults.store.soak import MUST_BE_ZERO, _hold_against, work_case

from pipeline.cli.app import main
from pipeline.storage import s3


def check(bench: Bench) -> None:
    """With a store that is well again."""
    bench.well_again()
    verdict = bench.verdict()
    assert verdict.right, verdict
    bench.collect()
    assert bench.leftovers() == []
    assert bench.uploads() == []
    assert bench.verdict() == verdict


@pytest.mark.parametrize("name", MIXES)
def test_a_job_and_the_next_one_over_changed_sources_outlive(bench: Bench, name: str) -> None:
    bench.proxy.script.set(MIXES[name], seed=1)
    assert bench.run().code == 0
    change(bench)
    assert bench.run().code == 0
    assert {rule.fault for rule in MIXES[name]} == set(bench.proxy.script.injected)
    check(bench)


def test_when_a_third_of_all_requests_are_refused_less_than_twice_as_many_are_made(bench: Bench) -> None:
    """A retry storm would make a busy store busier."""
    bench.place = "quiet"
    assert bench.run().code == 0
    quiet = bench.proxy.script.requests.total()
    bench.place = "busy"
    bench.proxy.script.set([Rule("503 SlowDown", share=0.3)], seed=2)
    assert bench.run().code == 0
    busy = bench.proxy.script.requests.total()
    assert bench.proxy.script.injected["503 SlowDown"] > 0.2 * busy
    assert busy < 2 * quiet
    check(bench)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_store_that_stays_away_ends_the_run_for_now(bench: Bench, method: str) -> None:
    bench.proxy.script.set([Rule("503 SlowDown", method=method, path="/out/", after=40)])
    ended = bench.run()
    assert ended.code == 4
    assert ("SlowDown" if method == "GET" else "run again") in ended.message
    bench.proxy.script.set([])
    assert bench.run().code == 0
    check(bench)


@pytest.mark.parametrize(
    ("answer", "after"),
    [("400 ExpiredToken", 0), ("403 RequestTimeTooSkewed", 30), ("403 ExpiredToken", 70)],
)
def test_refused_credentials_end_the_run_with_what_to_do(bench: Bench, answer: str, after: int) -> None:
    """At the first request, while sources are read, while units are staged, while it is published."""
    bench.proxy.script.set([Rule(answer, after=after)])
    ended = bench.run()
    assert ended.code == 4
    assert ("the credentials have expired; renew them" if "Token" in answer else "clock") in ended.message
    assert bench.proxy.script.injected[answer] < 30
    bench.proxy.script.set([])
    assert bench.run().code == 0
    check(bench)


def test_an_expired_session_is_told_without_a_traceback_or_a_secret(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Some stores repeat the session token in their refusal. The second run has new credentials."""
    secrets = {"AWS_SECRET_ACCESS_KEY": "secret-" + "k" * 33, "AWS_SESSION_TOKEN": "token-" + "t" * 300}
    job = tmp_path / "job.json"
    job.write_text(bench.config().model_dump_json())
    bench.proxy.script.set([Rule("403 ExpiredToken", after=60)])
    with through(bench.proxy, **secrets):
        assert main(["run", "-c", str(job)]) == 4
    shown = "".join(capfd.readouterr())
    assert "the credentials have expired; renew them" in shown
    assert "***" in shown
    assert "Traceback" not in shown
    assert not any(secret in shown for secret in secrets.values())
    bench.proxy.script.set([])
    assert main(["run", "-c", str(job)]) == 0
    check(bench)


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_done(bench: Bench) -> None:
    bench.proxy.script.set([Rule("unconditional")])
    ended = bench.run()
    assert ended.code == 4
    assert "ignores conditional writes (If-None-Match)" in ended.message
    assert bench.proxy.script.injected["unconditional"] > 0


def test_a_store_that_hides_what_is_missing_is_refused(bench: Bench) -> None:
    """Where a missing record looks like a forbidden one, nothing can be known to be absent."""
    bench.proxy.script.set([Rule("hidden", path="/out/")])
    ended = bench.run()
    assert ended.code == 4
    assert "s3:ListBucket" in ended.message


@pytest.mark.parametrize("fault", ["undeletable", "403 AccessDenied"])
def test_a_writer_that_may_not_delete_publishes_and_never_says_that_a_glob_is_exact(bench: Bench, fault: str) -> None:
    bench.proxy.script.set([Rule(fault, method="POST", path="[?&]delete"), Rule(fault, method="DELETE")])
    assert bench.run().code == 0
    assert bench.proxy.script.injected[fault] > 0
    assert "_SUCCESS" not in oracle.reader(bench.output).keys()  # noqa: SIM118
    check(bench)
    assert "_SUCCESS" in oracle.reader(bench.output).keys()  # noqa: SIM118


def test_flipped_bits_would_be_seen_if_they_got_through(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the check of what is read turned off, the mix that a job outlives does harm: the oracle isn't blind."""
    real = s3.S3Objects._read_once
    monkeypatch.setattr(s3.S3Objects, "_read_once", lambda *a: (found := real(*a)) and (found[0], True))
    bench.proxy.script.set([Rule("flipped", path="/in/")], seed=1)
    ended = bench.run()
    bench.proxy.script.set([])
    assert ended.code != 0 or not bench.verdict().right


@pytest.mark.parametrize("number", range(2))
def test_random_mixes_end_in_a_right_result(number: int, moto_endpoint: str, tiny_model: str) -> None:
    """Some faults end a run; the same command again goes on from there."""
    counts: Counter[str] = Counter()
    work_case(number, ("moto", moto_endpoint), tiny_model, counts)
    assert counts["jobs"] >= 2
    assert not [name for name in MUST_BE_ZERO if counts[name]]


def test_a_soak_counts_what_is_wrong_and_goes_on(
    moto_endpoint: str, tiny_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Bench, "run", lambda bench: Ended(1, "a bug"))
    counts: Counter[str] = Counter()
    work_case(7, ("moto", moto_endpoint), tiny_model, counts)
    assert counts["wrong_exits"] > 0
    assert "a run ended with 1: a bug" in caplog.text
    assert "soak(7, 0.1)" in caplog.text


@pytest.mark.parametrize(
    ("busy", "store", "violations", "pairs"),
    [(70.0, 30.0, 0, 1), (90.0, 50.0, 1, 1), (46.0, 4.0, 0, 0)],
    ids=["right", "too slow", "an encoder that hides the store"],
)
def test_a_pair_of_times_counts_only_where_a_slow_store_would_have_been_noticed(
    busy: float, store: float, violations: int, pairs: int
) -> None:
    """Where the encoder takes nearly all of the time, a store many times as slow doesn't double it."""
    counts: Counter[str] = Counter()
    _hold_against({"quiet": 43.0, "busy": busy, "store": store}, counts)
    assert (counts["violations"], counts["timed_pairs"]) == (violations, pairs)


def test_what_nobody_refers_to_is_seen(bench: Bench) -> None:
    assert bench.run().code == 0
    strays = ["data/lang=en/stray.parquet", "_embedpipe/part/aa/stray.parquet", "_embedpipe/new/thing"]
    for key in strays:
        bench.client.put_object(Bucket=bench.bucket, Key=f"{bench.place}/{key}", Body=b"x")
    bench.client.create_multipart_upload(Bucket=bench.bucket, Key="out/half")
    assert bench.leftovers() == sorted(strays)
    assert bench.uploads() == ["out/half"]


def test_where_radosgw_is_not_installed_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radosgw, "PROGRAMS", ("radosgw", "no-such-program"))
    assert "no-such-program" in radosgw.missing()
