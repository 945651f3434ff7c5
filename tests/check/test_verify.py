"""Every check of `verify` has a test in which it, and nothing else, fails."""

import io
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.snapshots import Edits, Made, make_snapshot, with_column, with_unit

from pipeline.check import sample
from pipeline.check.report import Report
from pipeline.check.verify import verify
from pipeline.commit.keys import log_key, spec_key
from pipeline.commit.manifest import ManifestUnit
from pipeline.errors import InputError, StorageError, VerificationError

Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path, tiny_model: str) -> Make:
    """Publishes a snapshot on local disk, with edits."""
    return lambda edits=None, **options: make_snapshot(
        str(tmp_path / "out"), tmp_path / "in", tiny_model, edits, **options
    )


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.passed is False}


def open_questions(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.passed is None}


def test_a_sound_snapshot_passes_every_check_with_nothing_left_open(root: str, tmp_path: Path, tiny_model: str) -> None:
    """A verifier that cries wolf is switched off. Local disk and S3."""
    make_snapshot(root, tmp_path / "in", tiny_model)
    report = verify(root, sample=16)
    assert [check for check in report.checks if check.passed is not True] == []
    assert report.passed
    assert len(report.checks) == 33
    assert json.loads(report.to_json())["passed"] is True


def test_nothing_published_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing has been published"):
        verify(str(tmp_path / "empty"))


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_log_entry_that_does_not_follow_its_base_fails_log(make: Make) -> None:
    made = make(Edits(entry=lambda entry: replace(entry, base=7)))
    assert failed(verify(made.root)) == {"log"}


def test_a_log_entry_that_is_not_json_ends_with_an_error_that_says_where(make: Make) -> None:
    made = make()
    made.replace_file(log_key(1), lambda data: data[:-5])
    with pytest.raises(VerificationError, match=r"00001\.json is not JSON"):
        verify(made.root)


def test_a_flipped_byte_of_the_manifest_fails_manifest(make: Make) -> None:
    made = make()
    key = next(entry.key for entry in made.store.list("_embedpipe/manifest/"))
    made.replace_file(key, lambda data: flip(data, len(data) - 20))
    assert "manifest" in failed(verify(made.root))


def test_a_missing_manifest_fails_manifest(make: Make) -> None:
    made = make()
    made.store.delete([entry.key for entry in made.store.list("_embedpipe/manifest/")])
    report = verify(made.root)
    assert failed(report) == {"manifest"}
    assert "is not there" in report.failed[0].detail


def test_a_spec_document_that_was_edited_fails_spec(make: Make) -> None:
    """Whoever edits the prompt in the document would have rows of two recipes under one name."""
    made = make()
    made.replace_file(spec_key(made.spec.spec_id), lambda data: data.replace(b"passage: ", b"query: "))
    assert "spec" in failed(verify(made.root))


@pytest.mark.parametrize("name", ["files", "rows", "bytes", "units", "rows_in", "rows_quarantined"])
def test_each_total_of_the_log_that_is_off_fails_totals(make: Make, name: str) -> None:
    made = make(Edits(entry=lambda entry: replace(entry, **{name: getattr(entry, name) + 1})))
    report = verify(made.root)
    assert failed(report) == {"totals"}
    assert name in report.failed[0].detail


def test_a_unit_that_is_there_twice_fails_units(make: Make) -> None:
    made = make(Edits(units=lambda units: [*units, units[0]]))
    assert "units" in failed(verify(made.root))


def test_a_row_lost_between_reading_and_staging_fails_balance(make: Make) -> None:
    made = make(with_unit(1, rows_in=5))
    assert failed(verify(made.root, source=False)) == {"balance"}


def test_rows_of_a_file_that_belong_to_no_unit_fail_slices(make: Make) -> None:
    def shrink(units: list[ManifestUnit]) -> list[ManifestUnit]:
        only = replace(units[0].slices[0], rows=3)
        return [replace(units[0], slices=(only,)), *units[1:]]

    assert {"slices", "balance"} <= failed(verify(make(Edits(units=shrink)).root))


def test_rows_of_a_file_that_belong_to_two_units_fail_slices(make: Make) -> None:
    def overlap(units: list[ManifestUnit]) -> list[ManifestUnit]:
        moved = replace(units[1].slices[0], first_row=0)
        return [units[0], replace(units[1], slices=(moved,)), *units[2:]]

    report = verify(make(Edits(units=overlap)).root, source=False)
    assert "slices" in failed(report)
    assert any("two units" in check.detail for check in report.failed)


def with_spans(first: tuple[int, int], second: tuple[int, int], measure: str = "bytes") -> Edits:
    """Other spans of the first file's two units: offsets from where the second begins, or rows."""

    def edit(units: list[ManifestUnit]) -> list[ManifestUnit]:
        at, end = (units[1].spans[0].start, units[1].spans[0].stop) if measure == "bytes" else (4, 8)
        one = replace(units[0].spans[0], measure=measure, start=first[0], stop=at + first[1])
        two = replace(units[1].spans[0], measure=measure, start=at + second[0], stop=end + second[1])
        return [replace(units[0], spans=(one,)), replace(units[1], spans=(two,)), *units[2:]]

    return Edits(units=edit)


def test_bytes_read_by_two_units_fail_spans(make: Make) -> None:
    report = verify(make(with_spans((0, 1), (0, 0))).root)
    assert failed(report) == {"spans"}
    assert "two units" in report.failed[0].detail


def test_rows_read_by_no_unit_fail_spans(make: Make) -> None:
    """Of formats read from their beginning the manifest has row numbers."""
    report = verify(make(with_spans((0, 0), (1, 0), "rows")).root)
    assert failed(report) == {"spans"}
    assert "no unit" in report.failed[0].detail


@pytest.mark.parametrize("spans", [((3, 0), (0, 0)), ((0, 0), (2, 0)), ((0, 0), (0, -2))])
def test_bytes_that_no_unit_read_fail_source_gaps_unless_they_are_blank(make: Make, spans: Any) -> None:
    """Between two units, before the first and after the last: rows that are silently not there, or blank lines."""
    assert failed(verify(make(with_spans(*spans)).root)) == {"source gaps"}


def test_blank_lines_between_units_are_no_gap(make: Make) -> None:
    assert failed(verify(make(with_spans((0, -1), (0, -1))).root)) == set()


def test_a_segment_without_its_last_unit_fails_spans(make: Make) -> None:
    assert failed(verify(make(with_unit(1, eof=False)).root)) == {"spans"}


@pytest.mark.parametrize("suffix", ["", ".other"])
def test_a_segment_cut_short_is_no_fault_where_the_log_says_that_its_file_failed(make: Make, suffix: str) -> None:
    """And only there: one bad file among ten thousand must not hide what is lost of the others."""
    names: list[str] = []

    def without_second(units: list[ManifestUnit]) -> list[ManifestUnit]:
        names.append(units[1].pieces[0].uri + suffix)
        return [units[0], *units[2:]]

    made = make(Edits(units=without_second, entry=lambda entry: replace(entry, failed={names[0]: "cut off"})))
    assert ("spans" in failed(verify(made.root))) == bool(suffix)


def test_a_file_whose_end_is_in_no_segment_fails_coverage(make: Make) -> None:
    def cut(units: list[ManifestUnit]) -> list[ManifestUnit]:
        pieces = (replace(units[0].pieces[0], last=False),)
        return [replace(unit, pieces=pieces) for unit in units[:2]] + units[2:]

    assert failed(verify(make(Edits(units=cut)).root)) == {"coverage"}


def test_a_source_file_in_two_versions_fails_coverage(make: Make) -> None:
    """Rows of yesterday's and today's version of a shard, side by side."""

    def again(units: list[ManifestUnit]) -> list[ManifestUnit]:
        pieces = (replace(units[1].pieces[0], version="other"),)
        spans = (replace(units[1].spans[0], version="other"),)
        return [units[0], replace(units[1], segment="f" * 32, k=0, pieces=pieces, spans=spans), *units[2:]]

    report = verify(make(Edits(units=again)).root, source=False)
    assert "coverage" in failed(report)
    assert any("two versions" in check.detail for check in report.failed)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_missing_data_file_fails_files_present(make: Make) -> None:
    made = make()
    made.store.delete([made.keys[0]])
    report = verify(made.root)
    assert {"files present", "glob"} == failed(report)
    assert made.keys[0] in report.failed[0].detail


def test_a_folder_in_place_of_a_data_file_fails_files_present(make: Make) -> None:
    """It ended the whole check as a bug."""
    made = make()
    path = Path(made.root, made.keys[0])
    path.unlink()
    path.mkdir()
    report = verify(made.root)
    assert "files present" in failed(report)
    assert f"{made.keys[0]} is a folder, where a file is due" in report.failed[0].detail


def test_a_data_file_that_can_not_be_opened_is_no_finding_but_named_with_the_reason(make: Make) -> None:
    """Nothing is known against the data: whoever checks lacks something. It was called a bug."""
    made = make()
    path = Path(made.root, made.keys[0])
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)  # which root may not open either
    with pytest.raises(StorageError, match=rf"^reading {path}: .*No such device or address"):
        verify(made.root)


def test_a_byte_too_many_fails_file_sizes(make: Make) -> None:
    made = make()
    made.replace_file(made.keys[0], lambda data: b"\0" + data)
    assert {"file sizes", "sha256"} <= failed(verify(made.root))


def test_a_flipped_byte_of_a_vector_fails_sha256_and_the_page_checksum(
    root: str, tmp_path: Path, tiny_model: str
) -> None:
    """pyarrow and DuckDB read a flipped bit as good data unless the checksum is looked at."""
    made = make_snapshot(root, tmp_path / "in", tiny_model)
    made.replace_file(made.keys[0], lambda data: flip(data, vector_page(data) + 40))
    assert failed(verify(made.root)) == {"sha256", "pages"}


def test_a_damaged_page_fails_pages_even_under_a_matching_sha256(make: Make) -> None:
    """Damage done before hashing is in the hash."""
    made = make(Edits(data=lambda data: flip(data, vector_page(data) + 40)))
    assert failed(verify(made.root)) == {"pages"}


def vector_page(data: bytes) -> int:
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return next(column.data_page_offset for column in columns if column.path_in_schema.startswith("embedding"))


def test_a_file_that_is_not_parquet_fails_footers(make: Make) -> None:
    assert failed(verify(make(Edits(data=lambda data: b"x" * len(data))).root)) == {"footers"}


def test_a_dropped_row_fails_footers_and_rows(make: Make) -> None:
    """The manifest counts what was staged; the file holds one row less."""

    def drop(units: list[ManifestUnit]) -> list[ManifestUnit]:
        told = [replace(part, file=replace(part.file, rows=8)) for unit in units[:2] for part in unit.slices]
        return [replace(unit, slices=(part,)) for unit, part in zip(units[:2], told, strict=True)] + units[2:]

    made = make(Edits(table=lambda table: table.slice(0, 7), units=drop))
    assert failed(verify(made.root)) == {"footers", "rows", "pairing"}


@pytest.mark.parametrize("name", ["embedpipe.spec", "embedpipe.recipe", "embedpipe.dimensions", "embedpipe.normalized"])
def test_a_footer_of_another_spec_fails_footers(make: Make, name: str) -> None:
    """A file of the model before, moved in by hand."""

    def relabel(table: pa.Table) -> pa.Table:
        return table.replace_schema_metadata({**table.schema.metadata, name.encode(): b"other"})

    assert failed(verify(make(Edits(table=relabel)).root)) == {"footers"}


def swap_columns(table: pa.Table) -> pa.Table:
    return table.select(["id", "embedding", "truncated", "token_count", "text_hash"])


def widen(table: pa.Table) -> pa.Table:
    return table.set_column(2, "token_count", table["token_count"].cast(pa.int64()))


def extra_column(table: pa.Table) -> pa.Table:
    return table.append_column("more", pa.array(range(table.num_rows)))


def nullable_elements(table: pa.Table) -> pa.Table:
    kind = pa.list_(pa.field("element", pa.float32()))
    return table.set_column(1, pa.field("embedding", kind, nullable=False), table["embedding"].cast(kind))


@pytest.mark.parametrize("edit", [swap_columns, widen, extra_column, nullable_elements])
def test_columns_in_another_order_type_or_number_fail_schema(make: Make, edit: Callable[[pa.Table], pa.Table]) -> None:
    """BigQuery's wildcard load fails when one file's columns stand in another order."""

    def with_metadata(table: pa.Table) -> pa.Table:
        return edit(table).replace_schema_metadata(table.schema.metadata)

    assert failed(verify(make(Edits(table=with_metadata)).root)) == {"schema"}


def test_a_folder_that_is_no_partition_fails_partitions(make: Make) -> None:
    assert failed(verify(make(Edits(folder="lang=en/")).root)) == {"partitions"}


def test_a_stranger_below_data_fails_glob_while_success_stands(make: Make) -> None:
    made = make()
    made.store.put_new("data/copy-of-a-file.parquet", b"PAR1")
    assert failed(verify(made.root)) == {"glob"}
    made.store.delete(["_SUCCESS"])
    assert failed(verify(made.root)) == set()


def test_rejected_rows_that_are_not_kept_aside_fail_quarantine(make: Make) -> None:
    made = make(with_unit(0, rows_quarantined=1, rows_in=5, quarantine="_embedpipe/quarantine/aa/x.parquet"))
    assert failed(verify(made.root, source=False)) == {"quarantine"}


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def put(index: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value if at == index else old for at, old in enumerate(values)]


def on_first(change: Callable[[list[float]], list[float] | None]) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [change(values[0]), *values[1:]]


@pytest.mark.parametrize(
    ("expected", "column", "change"),
    [
        ({"ids present", "pairing"}, "id", put(2, None)),
        ({"ids present", "pairing"}, "id", put(2, "")),
        ({"pairing"}, "id", put(2, "id-of-another")),
        ({"pairing"}, "text_hash", put(2, "0" * 32)),
        ({"pairing", "text hashes"}, "text_hash", put(2, "0" * 31)),
        ({"pairing", "text hashes"}, "text_hash", put(2, "Z" * 32)),
        ({"token counts"}, "token_count", put(2, 0)),
        ({"token counts"}, "token_count", put(2, -1)),
        ({"truncation"}, "truncated", put(2, True)),
        ({"truncation"}, "token_count", put(2, 17)),
        ({"dimensions"}, "embedding", on_first(lambda vector: vector[:-1])),
        ({"dimensions"}, "embedding", on_first(lambda vector: [*vector, 0.0])),
        ({"finite"}, "embedding", on_first(lambda vector: [float("nan"), *vector[1:]])),
        ({"finite"}, "embedding", on_first(lambda vector: [float("inf"), *vector[1:]])),
        ({"norms"}, "embedding", on_first(lambda vector: [1.01 * value for value in vector])),
        (set(), "embedding", on_first(lambda vector: [0.0] * len(vector))),
    ],
)
def test_a_wrong_value_in_one_row_fails_its_check_alone(
    make: Make, expected: set[str], column: str, change: Callable[[list[Any]], list[Any]]
) -> None:
    """All bytes, hashes and counts agree with the records: only the row itself is wrong. Zero vectors are allowed."""
    assert failed(verify(make(with_column(column, change)).root)) == expected


def test_a_source_that_repeats_ids_is_counted_but_no_fault(make: Make) -> None:
    report = verify(make(with_column("id", put(0, "id-1"))).root)
    unique = next(check for check in report.checks if check.name == "ids unique")
    assert (unique.passed, unique.count) == (True, 1)


def test_generated_ids_that_are_there_twice_fail_ids_unique(make: Make) -> None:
    def generated(layout: dict[str, Any]) -> dict[str, Any]:
        return {**layout, "id": {"column": None, "type": "string"}}

    edits = replace(with_column("id", put(0, "id-1")), layout=generated)
    assert failed(verify(make(edits).root)) == {"ids unique", "pairing"}


# ── source and sample ────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_the_source_does_not_have_fail_source_rows(make: Make) -> None:
    """Records that agree with each other but not with the input: every row of a unit twice, or none."""
    made = make(with_unit(0, rows_in=5, rows_quarantined=1, quarantine="_embedpipe/quarantine/aa/x.parquet"))
    made.store.put_new("_embedpipe/quarantine/aa/x.parquet", b"PAR1")
    report = verify(made.root)
    assert failed(report) == {"source rows"}
    assert "8 rows in the source, 9 were read" in report.failed[0].detail


def test_a_changed_and_a_deleted_source_file_are_named_as_not_checked(make: Make) -> None:
    """The data may be right; what can't be said must not pass for said."""
    made = make()
    with made.sources[0].open("a") as file:
        file.write('{"id": "new", "text": "new"}\n')
    made.sources[1].unlink()
    report = verify(made.root, sample=16)
    assert failed(report) == set()
    assert report.passed
    assert open_questions(report) == {"source versions", "source rows", "source gaps", "sample texts", "sample vectors"}
    versions = next(check for check in report.checks if check.name == "source versions")
    assert "changed" in versions.detail
    assert "gone" in versions.detail
    assert versions.count == 2


def test_source_counts_can_be_left_out(make: Make) -> None:
    assert not any(check.name.startswith("source") for check in verify(make().root, source=False).checks)


def test_vectors_of_two_rows_swapped_before_hashing_fail_the_sample(make: Make) -> None:
    """All records agree and every vector is sound: only embedding again can tell."""
    made = make(with_column("embedding", lambda values: [values[1], values[0], *values[2:]]))
    assert failed(verify(made.root)) == set()
    report = verify(made.root, sample=16)
    assert failed(report) == {"sample vectors"}
    assert report.failed[0].count == 2


def test_texts_of_two_rows_swapped_fail_the_sample(make: Make) -> None:
    """Ids and vectors of different rows, paired from the start: the digest was made of the wrong pairing too."""
    made = make(with_column("id", lambda values: [values[1], values[0], *values[2:]]))
    assert failed(verify(made.root, sample=16)) == {"pairing", "sample texts"}


def test_an_id_the_source_does_not_have_fails_the_sample(make: Make) -> None:
    report = verify(make(with_column("id", put(0, "nobody"))).root, sample=16)
    assert failed(report) == {"pairing", "sample texts"}


@pytest.mark.parametrize(("precision", "fails"), [("gated", False), ("exact", True)])
def test_the_bound_is_that_of_the_precision_the_vectors_were_made_in(make: Make, precision: str, fails: bool) -> None:
    """A cosine of 0.99996 is what half precision gives, and too little for exact."""

    def nudge(vector: list[float]) -> list[float]:
        moved = [vector[0] + 0.009, *vector[1:]]
        norm = sum(value * value for value in moved) ** 0.5
        return [value / norm for value in moved]

    made = make(with_column("embedding", on_first(nudge)), precision=precision)
    assert failed(verify(made.root, sample=16)) == ({"sample vectors"} if fails else set())


def test_a_model_that_is_not_here_or_not_the_same_is_said(make: Make, tmp_path: Path, minilm: str) -> None:
    made = make(Edits(entry=lambda entry: replace(entry, facts={"model": "nobody/nothing", "revision": None})))
    report = verify(made.root, sample=4)
    assert open_questions(report) == {"sample vectors"}
    assert "nobody/nothing" in report.checks[-1].detail
    report = verify(made.root, sample=4, model=minilm)
    assert "is not the model the vectors were made with" in report.checks[-1].detail


def test_the_model_can_be_named_by_its_directory(make: Make, tiny_model: str) -> None:
    made = make(Edits(entry=lambda entry: replace(entry, facts={"model": "nobody/nothing", "revision": None})))
    assert verify(made.root, sample=4, model=tiny_model).checks[-1].passed


def test_a_model_that_its_libraries_do_not_take_any_more_leaves_the_vectors_unchecked(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data may be right; other builds of the libraries say nothing against it."""

    def broken(*_: object) -> None:
        raise ValueError("Transformers does not recognize this architecture\nsecond line")

    monkeypatch.setattr(sample, "embed_again", broken)
    report = verify(make().root, sample=4)
    assert report.passed
    assert open_questions(report) == {"sample vectors"}
    assert report.checks[-1].detail.endswith(
        "can't be run on this machine: ValueError: Transformers does not recognize this architecture"
    )


def test_a_snapshot_overtaken_while_it_is_read_gives_way_to_the_newer_one(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that publishes meanwhile deletes files of the version under verification: no fault of the data."""
    made = make()
    import pipeline.check.verify as module

    versions = iter([1, 2, 2])
    monkeypatch.setattr(module, "newest_version", lambda store: next(versions))
    seen = []

    def fake(store: Any, version: int, *_: Any) -> Report:
        seen.append(version)
        missing = module.Check("files present", version == 2, "", 0)
        return Report(made.root, version, (missing,))

    monkeypatch.setattr(module, "_verify_version", fake)
    assert verify(made.root).version == 2
    assert seen == [1, 2]
