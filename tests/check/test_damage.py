"""Records and data that were damaged, or made to do harm: `verify` says so, and ends as it ends with any other fault."""

import json
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.snapshots import Edits, Made, make_snapshot

from pipeline.check.report import Report
from pipeline.check.verify import verify
from pipeline.commit.keys import log_key, spec_key
from pipeline.errors import VerificationError

Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path, tiny_model: str) -> Make:
    """Publishes a snapshot on local disk, with edits."""
    return lambda edits=None: make_snapshot(str(tmp_path / "out"), tmp_path / "in", tiny_model, edits)


def outcome(root: str) -> int:
    """What the command ends with."""
    try:
        return 0 if verify(root).passed else 6
    except VerificationError as error:
        return error.exit_code


@pytest.mark.parametrize("seed", range(4))
def test_whatever_bit_of_an_output_is_flipped_verify_ends_with_a_verdict(make: Make, seed: int) -> None:
    """About one flip in fifty ended as a bug: a key that is no key any more, a number that is text, a name in a footer that
    is no UTF-8. Records are short beside the data, so every file has as many flips, and the ends of files, where Parquet has
    its footer, as many as all before them."""
    made = make()
    files = sorted(path for path in Path(made.root).rglob("*") if path.is_file())
    assert len(files) == 6  # mark, log entry, manifest, spec, two data files
    chance = random.Random(seed)
    unseen = 0
    for path in files * 12:
        whole = path.read_bytes()
        first = chance.choice([0, max(0, len(whole) - 3000)])
        at = chance.randrange(8 * first, 8 * len(whole))
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        code = outcome(made.root)
        assert code in (0, 6), f"bit {at} of {path}"
        unseen += code == 0 and path.parent.name not in ("out", "log")
        path.write_bytes(whole)
    assert unseen == 0  # but for the mark, whose content nobody reads, and facts of the log entry, which are for people
    assert outcome(made.root) == 0


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """The JSON object, changed in place."""

    def apply(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("manifest"), "manifest is missing"),
        (lambda entry: entry["manifest"].pop("sha256"), r"manifest\.sha256 is missing"),
        (lambda entry: entry.update(manifest=[]), r"manifest is \[\], where an object is due"),
        (lambda entry: entry["manifest"].update(key="../../x"), r"manifest\.key is '../../x', where text like"),
        (lambda entry: entry["manifest"].update(bytes="1"), r"manifest\.bytes is '1', where a number from 0 on is due"),
        (lambda entry: entry.update(rows=None), "rows is None, where a number from 0 on is due"),
        (lambda entry: entry.update(rows=True), "rows is True, where a number from 0 on is due"),
        (lambda entry: entry.update(rows=-1), "rows is -1, where a number from 0 on is due"),
        (lambda entry: entry.update(limit="no"), r"limit is 'no', where a number from 0 on or null is due"),
        (lambda entry: entry.update(failed=[1]), r"failed is \[1\], where an object is due"),
        (lambda entry: entry.update(spec="../" * 10), r"spec is '../../.*, where text like"),
        (lambda entry: entry.update(spec="\ud800"), "is not JSON .*surrogates not allowed"),
    ],
)
def test_a_log_entry_of_another_form_is_told_of_by_the_place_in_it(
    make: Make, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    made = make()
    made.replace_file(log_key(1), edited(change))
    with pytest.raises(VerificationError, match=rf"00001\.json:? {message}.*; it was changed from outside"):
        verify(made.root)


def test_a_log_entry_nested_without_end_is_not_json(make: Make) -> None:
    made = make()
    made.replace_file(log_key(1), lambda data: b"[" * 100_000)
    with pytest.raises(VerificationError, match=r"00001\.json is not JSON"):
        verify(made.root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["recipe"].pop("prompt"), r"recipe\.prompt is missing"),
        (lambda spec: spec["recipe"].update(outputs=[]), r"recipe\.outputs has 0 items, where 1 are due"),
        (lambda spec: spec["recipe"]["model"]["files"][0].pop(), r"recipe\.model\.files\[0\] has 1 items, where 2 "),
        (lambda spec: spec["layout"].update(keep=[["a", 1]]), r"layout\.keep\[0\]\[1\] is 1, where text is due"),
    ],
)
def test_a_spec_of_another_form_is_told_of_by_the_place_in_it(
    make: Make, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    made = make()
    made.replace_file(spec_key(made.spec.spec_id), edited(change))
    with pytest.raises(VerificationError, match=rf"\.json: {message}.*; it was changed from outside"):
        verify(made.root)


def told(report: Report) -> dict[str, bool | None]:
    return {check.name: check.passed for check in report.checks}


def test_a_manifest_of_another_hash_is_not_read_and_the_rest_is_said_to_be_open(make: Make) -> None:
    """What it says of the data would be held against the data."""
    made = make()
    key = next(entry.key for entry in made.store.list("_embedpipe/manifest/"))
    made.replace_file(key, lambda data: bytes([data[0] ^ 1]) + data[1:])
    report = verify(made.root, sample=4)
    assert told(report) == {"log": True, "manifest": False, "all else": None}
    assert "has another sha256 than the log says" in report.failed[0].detail


def test_a_spec_of_another_hash_is_not_used_and_the_rest_is_said_to_be_open(make: Make) -> None:
    made = make()
    made.replace_file(spec_key(made.spec.spec_id), lambda data: data.replace(b"passage: ", b"query: "))
    assert told(verify(made.root, sample=4)) == {"log": True, "manifest": True, "spec": False, "all else": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment": None}, "row 1: segment is None, where text is due"),
        ({"pieces": ()}, "row 1: pieces has 0 items, where 1 are due"),
        ({"rows_in": -4}, "row 1: rows_in is -4, where a number from 0 on is due"),
    ],
)
def test_a_manifest_of_another_form_is_told_of_by_the_place_in_it_even_under_its_hash(
    make: Make, changes: dict[str, Any], message: str
) -> None:
    """A program that publishes nonsense hashes it too."""
    made = make(Edits(units=lambda units: [units[0], replace(units[1], **changes), *units[2:]]))
    report = verify(made.root)
    assert told(report) == {"log": True, "manifest": False, "all else": None}
    assert message in report.failed[0].detail


def test_a_column_whose_name_is_no_utf8_fails_footers(make: Make) -> None:
    """It has the hash it should have, so nothing else tells of it."""
    made = make(Edits(data=lambda data: data.replace(b"text_hash", b"text_has\xff")))
    assert told(verify(made.root))["footers"] is False


# ── a name that comes with the output ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["evil.x", "evil.x.y", "evil", ".evil", "evil..x", "no_such.x", "__main__", "a b", ""])
def test_no_module_is_run_that_an_output_names(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Looking for `evil.x` runs evil, and what the log names is written by whoever wrote the output."""
    canary = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    made = make(Edits(entry=lambda entry: replace(entry, facts={"model": f"package:{name}", "revision": None})))
    report = verify(made.root, sample=4)
    assert not canary.exists()
    assert told(report)["sample vectors"] is None
    assert f"the model 'package:{name}' is not on this machine" in report.checks[-1].detail


@pytest.mark.parametrize("facts", [{}, {"model": None}, {"model": "a" * 5000}, {"model": "a/b", "revision": [1]}])
def test_a_name_that_can_be_no_models_is_not_on_this_machine(make: Make, facts: dict[str, Any]) -> None:
    report = verify(make(Edits(entry=lambda entry: replace(entry, facts=facts))).root, sample=4)
    assert told(report)["sample vectors"] is None
    assert "is not on this machine" in report.checks[-1].detail
