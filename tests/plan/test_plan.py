"""The plan: pure, so every situation is a few lines."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records import EXTRACTION, done, input_file, spec, whole

from pipeline.commit.assembly import assembled_units, plan_assembly
from pipeline.commit.manifest import ManifestUnit
from pipeline.commit.records import AssemblyRecord, FileRef, Slice, UnitRecord
from pipeline.errors import RefusedError
from pipeline.plan.plan import (
    candidate_units,
    is_complete,
    make_plan,
    match_head,
    segments_by_id,
    untiled_files,
)
from pipeline.plan.records import HeadMatch
from pipeline.plan.refuse import check_drop, check_spec
from pipeline.source.records import Piece, Segment

SPEC = spec()
NOTHING = HeadMatch((), (), 0, frozenset())


def published(*records: UnitRecord) -> tuple[ManifestUnit, ...]:
    """Units as a manifest lists them, all in one data file."""
    assembly = plan_assembly(0, (), (), records, 1 << 30, {})
    made = [
        AssemblyRecord(
            0,
            assembly.id,
            file.k,
            FileRef(f"data/0-{assembly.id}-{file.k}-{'0' * 32}.parquet", 1000, file.rows, "0" * 64),
            tuple(Slice(s.unit, sum(t.rows for t in file.slices[:i]), s.rows) for i, s in enumerate(file.slices)),
        )
        for file in assembly.files
    ]
    return tuple(assembled_units(assembly, made, (), records))


def test_a_file_that_did_not_change_stays_covered() -> None:
    file = input_file("a.jsonl")
    head = published(done(SPEC, whole(file)))
    match = match_head(SPEC.spec_id, {file.uri: file}, head, EXTRACTION, append=False)
    assert match.kept == head
    assert not match.open_files


def test_a_file_with_a_new_version_is_dropped_and_open() -> None:
    old, new = input_file("a.jsonl"), input_file("a.jsonl", version="2")
    head = published(done(SPEC, whole(old)))
    match = match_head(SPEC.spec_id, {new.uri: new}, head, EXTRACTION, append=False)
    assert (match.kept, match.dropped, match.open_files) == ((), head, {new.uri})
    assert match.gone_rows == 0, "its rows will be replaced, not lost"


def test_mirror_drops_a_file_that_is_gone_and_append_keeps_it() -> None:
    """An append job that lists only today's folder must not lose yesterday's rows."""
    gone, here = input_file("a.jsonl"), input_file("b.jsonl")
    head = published(done(SPEC, whole(gone)), done(SPEC, whole(here)))
    mirror = match_head(SPEC.spec_id, {here.uri: here}, head, EXTRACTION, append=False)
    assert [unit.pieces[0].uri for unit in mirror.dropped] == [gone.uri]
    assert mirror.gone_rows == 10
    append = match_head(SPEC.spec_id, {here.uri: here}, head, EXTRACTION, append=True)
    assert not append.dropped


def test_append_refuses_to_tear_a_group_apart() -> None:
    """One unit over two files, one changed and one unlisted: dropping the unit would lose the unlisted file's rows."""
    changed, unlisted = input_file("a.jsonl"), input_file("b.jsonl")
    group = Segment((*whole(changed).pieces, *whole(unlisted).pieces))
    head = published(done(SPEC, group))
    today = {changed.uri: input_file("a.jsonl", version="2")}
    with pytest.raises(RefusedError, match="mode=mirror"):
        match_head(SPEC.spec_id, today, head, EXTRACTION, append=True)


def test_moving_the_root_redoes_nothing_when_rows_have_ids_of_their_own() -> None:
    file = input_file("a.jsonl")
    moved = dataclasses.replace(file, path="deeper/a.jsonl")
    head = published(done(SPEC, whole(file)))
    assert match_head(SPEC.spec_id, {file.uri: moved}, head, EXTRACTION, append=False).kept == head
    by_place = dataclasses.replace(EXTRACTION, id=None)
    assert not match_head(SPEC.spec_id, {file.uri: moved}, head, by_place, append=False).kept


def test_a_segment_is_complete_only_with_every_unit_up_to_its_end() -> None:
    segment = whole(input_file("a.jsonl"))
    first, second = done(SPEC, segment, 0, eof=False), done(SPEC, segment, 1)
    assert is_complete([first, second])
    assert not is_complete([first])
    assert not is_complete([second])


def test_units_that_committed_out_of_order_are_found_and_passed_over() -> None:
    a, b = whole(input_file("a.jsonl")), whole(input_file("b.jsonl"))
    segments = segments_by_id(SPEC.spec_id, [a], EXTRACTION)
    record, other = done(SPEC, a, 1000, eof=False), done(SPEC, b, 1000)
    assert candidate_units(segments, {record.unit: 0, other.unit: 0}) == [record.unit]
    plan = make_plan(NOTHING, segments, {record.unit: record}, {}, 0)
    assert plan.pending[0].done == {1000}
    assert plan.committed == (record,)


def test_a_failed_unit_is_worked_at_the_next_generation() -> None:
    segment = whole(input_file("a.jsonl"))
    failed = dataclasses.replace(done(SPEC, segment, 0, generation=2), state="failed")
    segments = segments_by_id(SPEC.spec_id, [segment], EXTRACTION)
    plan = make_plan(NOTHING, segments, {failed.unit: failed}, {}, 0)
    assert plan.pending[0].generation(0) == 3
    assert plan.pending[0].generation(1) == 0


def test_deaths_over_a_unit_are_seen_beyond_any_number_of_units_that_have_their_record() -> None:
    """Unseen, a poisonous unit is never tried apart, and every run dies at it."""
    segment = whole(input_file("a.jsonl"))
    segments = segments_by_id(SPEC.spec_id, [segment], EXTRACTION)
    records = [done(SPEC, segment, k, eof=False) for k in range(80)]
    poisonous = done(SPEC, segment, len(records)).unit
    rulings = {record.unit: record for record in records}
    assert make_plan(NOTHING, segments, rulings, {poisonous: 2}, 0).pending[0].deaths == ((len(records), 2),)
    match = dataclasses.replace(NOTHING, kept=published(*records))
    plan = make_plan(match, segments, rulings, {poisonous: 2}, 0)
    assert plan.pending[0].deaths == ((len(records), 2),), "the head has the others, and their records stand"


def test_a_partly_published_segment_has_only_its_rest_pending() -> None:
    """A snapshot may lack a failed unit; the next run owes that unit only."""
    segment = whole(input_file("a.jsonl"))
    head = published(done(SPEC, segment, 0, eof=False))
    file = segment.pieces[0].file
    match = match_head(SPEC.spec_id, {file.uri: file}, head, EXTRACTION, append=False)
    assert match.open_files == {file.uri}
    plan = make_plan(match, segments_by_id(SPEC.spec_id, [segment], EXTRACTION), {}, {}, 0)
    assert plan.pending[0].done == {0}
    assert untiled_files(head) == [file.uri]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_a_file_is_covered_exactly_when_its_pieces_reach_from_beginning_to_end(
    sizes: list[int], data: st.DataObject
) -> None:
    file = input_file("a.jsonl", size=sum(sizes))
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    segments = [Segment((Piece(file, "bytes", a, b),)) for a, b in itertools.pairwise(bounds)]
    keep = data.draw(st.lists(st.sampled_from(range(len(segments))), unique=True))
    head = published(*(done(SPEC, segments[i]) for i in keep)) if keep else ()
    match = match_head(SPEC.spec_id, {file.uri: file}, head, EXTRACTION, append=False)
    assert (not match.open_files) == (len(keep) == len(segments))


def test_an_output_of_another_spec_is_refused_unless_replacing_is_asked_for() -> None:
    """A new model under an old output would mix vector spaces without an error anywhere."""
    from support.memory import MemoryStore

    from pipeline.commit.snapshot import publish

    other = spec("other")
    entry = publish(
        MemoryStore(), other, None, published(done(other, whole(input_file("a.jsonl")))), retain=1, failed={}, facts={}
    )
    with pytest.raises(RefusedError, match="different name"):
        check_spec(SPEC, entry, other, replace=False, output="out")
    assert check_spec(SPEC, entry, other, replace=True, output="out") is False
    assert check_spec(other, entry, other, replace=False, output="out") is True


def test_a_limited_run_never_publishes_over_a_full_snapshot_but_a_full_one_replaces_a_limited() -> None:
    from support.memory import MemoryStore

    from pipeline.commit.snapshot import publish

    units = published(done(SPEC, whole(input_file("a.jsonl"))))
    full = publish(MemoryStore(), SPEC, None, units, retain=1, failed={}, facts={})
    limited = spec(limit=5)
    with pytest.raises(RefusedError, match="--limit"):
        check_spec(limited, full, SPEC, replace=True, output="out")
    small = publish(MemoryStore(), limited, None, units, retain=1, failed={}, facts={})
    assert check_spec(SPEC, small, limited, replace=False, output="out") is False


def test_losing_more_than_a_tenth_of_the_rows_is_refused_unless_allowed() -> None:
    from support.memory import MemoryStore

    from pipeline.commit.snapshot import publish

    units = published(done(SPEC, whole(input_file("a.jsonl")), rows=100))
    entry = publish(MemoryStore(), SPEC, None, units, retain=1, failed={}, facts={})
    check_drop("out", entry, 10, SPEC, allow_drop=False)
    with pytest.raises(RefusedError, match="11 of the 100 rows"):
        check_drop("out", entry, 11, SPEC, allow_drop=False)
    check_drop("out", entry, 100, SPEC, allow_drop=True)
    with pytest.raises(RefusedError, match="11 of the 100 rows"):
        check_drop("out", entry, 11, spec(limit=5), allow_drop=False)


def test_a_limited_try_may_be_replaced_by_a_smaller_one() -> None:
    from support.memory import MemoryStore

    from pipeline.commit.snapshot import publish

    units = published(done(SPEC, whole(input_file("a.jsonl")), rows=100))
    tried = publish(MemoryStore(), spec(limit=100), None, units, retain=1, failed={}, facts={})
    check_drop("out", tried, 95, spec(limit=5), allow_drop=False)
    with pytest.raises(RefusedError, match="20 of the 100 rows"):
        check_drop("out", tried, 20, spec(limit=100), allow_drop=False)
