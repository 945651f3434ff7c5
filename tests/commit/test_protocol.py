"""The commit protocol on a store in memory, operation by operation."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from support.memory import MemoryStore
from support.records import done, input_file, spec, uuid_of, whole

from pipeline.commit.assembly import Assembly, assembled_units, commit_file, plan_assembly, read_assembled
from pipeline.commit.attempts import begin_attempt, end_attempt, list_unended
from pipeline.commit.collect import collect, find_garbage, list_unpublished
from pipeline.commit.keys import (
    ASSEMBLY,
    ATTEMPT,
    LOG,
    SUCCESS,
    UNIT,
    attempt_key,
    data_key,
    log_key,
    part_key,
    quarantine_key,
    spec_key,
    unit_key,
)
from pipeline.commit.manifest import ManifestUnit, decode_manifest, encode_manifest
from pipeline.commit.records import AssemblyRecord, AttemptNote, FileRef, LogEntry, Slice, UnitRecord
from pipeline.commit.snapshot import Snapshot, publish, read_entry, read_head, read_stored_spec, republish
from pipeline.commit.success import settle_success
from pipeline.commit.units import (
    RETRY,
    commit_unit,
    list_generations,
    open_request,
    read_rulings,
    read_unit,
    retire_unit,
)
from pipeline.errors import CommitError, InputError, Overtaken, VerificationError
from pipeline.sink.records import FolderRows
from pipeline.source.records import InputFile, Piece, Segment
from pipeline.spec import Spec
from pipeline.storage.probe import mark
from pipeline.storage.store import Entry

SPEC = spec()
A, B = input_file("a.jsonl"), input_file("b.jsonl")


def stage(store: MemoryStore, record: UnitRecord) -> UnitRecord:
    """Put a unit's part and commit it, as a worker does."""
    assert record.part is not None
    store.put_new(record.part.key, b"p" * record.part.bytes)
    standing, _ = commit_unit(store, record)
    return standing


def assemble(store: MemoryStore, assembly: Assembly, attempt: str = "x") -> list[AssemblyRecord]:
    """Make an assembly's files and commit them."""
    records = []
    for file in assembly.files:
        key = data_key(file.folder, assembly.base, assembly.id, file.k, uuid_of(attempt))
        store.put_new(key, b"d" * 10)
        slices, first = [], 0
        for source in file.slices:
            slices.append(Slice(source.unit, first, source.rows))
            first += source.rows
        made = AssemblyRecord(assembly.base, assembly.id, file.k, FileRef(key, 10, file.rows, "0" * 64), tuple(slices))
        records.append(commit_file(store, made))
    return records


def release(
    store: MemoryStore,
    added: list[UnitRecord],
    kept: tuple[ManifestUnit, ...] = (),
    dropped: tuple[ManifestUnit, ...] = (),
    retain: int = 1,
    of: Spec = SPEC,
) -> Snapshot:
    """Assemble and publish on top of the head."""
    head = read_head(store)
    base = head.entry.version if head else 0
    assembly = plan_assembly(base, kept, dropped, added, 1 << 30, {})
    units = assembled_units(assembly, assemble(store, assembly, f"x{base}"), kept, added)
    publish(store, of, head.entry if head else None, units, retain=retain, failed={}, facts={})
    snapshot = read_head(store)
    assert snapshot is not None
    return snapshot


def newest(store: MemoryStore) -> int:
    head = read_head(store)
    return head.entry.version if head else 0


def unchanged(uri: str) -> str | None:
    return "1"


def test_two_attempts_of_one_unit_leave_one_ruling() -> None:
    """A zombie that finishes late must not replace, double or unseat what was committed."""
    store = MemoryStore()
    first = done(SPEC, whole(A), attempt="first")
    zombie = done(SPEC, whole(A), attempt="zombie")
    assert commit_unit(store, first) == (first, True)
    assert commit_unit(store, zombie) == (first, False)
    assert read_unit(store, first.unit, 0) == first


def test_a_record_that_does_not_balance_is_refused() -> None:
    record = dataclasses.replace(done(SPEC, whole(A)), rows_in=11)
    with pytest.raises(CommitError, match="11 source rows, but 10 rows out"):
        commit_unit(MemoryStore(), record)


def test_the_highest_generation_rules() -> None:
    store = MemoryStore()
    commit_unit(store, dataclasses.replace(done(SPEC, whole(A)), state="failed"))
    commit_unit(store, done(SPEC, whole(A), generation=1))
    assert list_generations(store) == {done(SPEC, whole(A)).unit: 1}


def test_records_and_manifests_survive_the_round_trip() -> None:
    record = done(SPEC, whole(A))
    assert UnitRecord.from_json(record.to_json()) == record
    store = MemoryStore()
    snapshot = release(store, [stage(store, record)])
    assert decode_manifest(encode_manifest(snapshot.units)) == snapshot.units
    assert LogEntry.from_json(store.objects[log_key(1)]) == snapshot.entry


def test_two_publishers_from_one_base_give_one_version_and_one_overtaken() -> None:
    store = MemoryStore()
    release(store, [stage(store, done(SPEC, whole(A)))])
    head = read_head(store)
    assert head is not None
    release(store, [stage(store, done(SPEC, whole(B)))], kept=head.units)
    with pytest.raises(Overtaken):
        publish(store, SPEC, head.entry, head.units, retain=1, failed={}, facts={"somebody": "else"})


def test_the_same_units_from_the_same_base_make_the_same_assembly() -> None:
    """Drivers that race share each other's files instead of doubling the work."""
    records = [done(SPEC, whole(A)), done(SPEC, whole(B))]
    assert plan_assembly(3, (), (), records, 1500, {}) == plan_assembly(3, (), (), records[::-1], 1500, {})
    assert plan_assembly(3, (), (), records, 1500, {}).id != plan_assembly(3, (), (), records, 9999, {}).id
    assert plan_assembly(3, (), (), records, 1500, {}).id != plan_assembly(4, (), (), records, 1500, {}).id


def test_files_are_cut_at_the_target_size_and_by_folder() -> None:
    records = [done(SPEC, whole(input_file(f"{i}.jsonl"))) for i in range(5)]
    assert [len(file.slices) for file in plan_assembly(0, (), (), records, 2500, {}).files] == [2, 2, 1]


def test_files_of_several_folders_are_numbered_without_gaps_and_once_each() -> None:
    """The number is the key of a file's commit record: two files with one number could never both be published."""
    folders = (FolderRows("a=1/", 5, 0, 500, "0" * 64), FolderRows("a=2/", 5, 500, 500, "0" * 64))
    records = [dataclasses.replace(done(SPEC, whole(input_file(f"{i}.jsonl"))), folders=folders) for i in range(3)]
    plan = plan_assembly(0, (), (), records, 1, {})
    assert [file.k for file in plan.files] == list(range(6))


def test_a_head_file_whose_units_stay_is_not_written_again() -> None:
    """An incremental run costs what changed."""
    store = MemoryStore()
    first = release(store, [stage(store, done(SPEC, whole(A)))])
    second = release(store, [stage(store, done(SPEC, whole(B)))], kept=first.units)
    assert set(first.files) < set(second.files)


def test_a_file_that_loses_a_unit_is_rewritten_from_what_is_kept() -> None:
    store = MemoryStore()
    first = release(store, [stage(store, done(SPEC, whole(A))), stage(store, done(SPEC, whole(B)))])
    gone, kept = first.units
    second = release(store, [], kept=(kept,), dropped=(gone,))
    assert [unit.unit for unit in second.units] == [kept.unit]
    assert not set(first.files) & set(second.files)
    assert second.entry.rows == 10


def test_a_manifest_that_names_rows_twice_is_never_published() -> None:
    store = MemoryStore()
    first = release(store, [stage(store, done(SPEC, whole(A)))])
    twice = dataclasses.replace(first.units[0], unit="f" * 32)
    with pytest.raises(CommitError, match="belong to no unit or to two"):
        publish(store, SPEC, first.entry, [*first.units, twice], retain=1, failed={}, facts={})


def test_after_a_run_nothing_unreferenced_is_left() -> None:
    store = MemoryStore()
    record = done(SPEC, whole(A))
    store.put_new(attempt_key(record.unit, 0, record.attempt), b"{}")
    release(store, [stage(store, record)])
    collect(store, find_garbage(store, unchanged))
    kinds = {key.split("/")[1] if key.startswith("_embedpipe") else key.split("/")[0] for key in store.objects}
    assert kinds == {"data", "log", "manifest", "spec", "unit"}


def test_collecting_beside_a_live_run_leaves_what_may_still_be_committed() -> None:
    """Age says nothing: a part without a record may be committed a second from now."""
    store = MemoryStore()
    release(store, [stage(store, done(SPEC, whole(A)))])
    in_flight, staged = done(SPEC, whole(B)), done(SPEC, whole(input_file("c.jsonl")))
    assert in_flight.part is not None
    store.put_new(in_flight.part.key, b"p")
    stage(store, staged)
    collect(store, find_garbage(store, unchanged))
    assert in_flight.part.key in store.objects
    assert staged.part is not None
    assert staged.part.key in store.objects


def test_the_part_of_an_attempt_that_lost_is_garbage() -> None:
    store = MemoryStore()
    winner, loser = done(SPEC, whole(A), attempt="w"), done(SPEC, whole(A), attempt="l")
    stage(store, winner)
    assert loser.part is not None
    store.put_new(loser.part.key, b"p")
    store.put_new(quarantine_key(loser.unit, 0, loser.attempt), b"q")
    garbage = find_garbage(store, unchanged)
    assert set(garbage.keys) == {loser.part.key, quarantine_key(loser.unit, 0, loser.attempt)}


def test_staged_rows_of_a_source_that_moved_on_are_retired_and_deleted() -> None:
    store = MemoryStore()
    record = stage(store, done(SPEC, whole(A)))
    garbage = find_garbage(store, lambda uri: "2")
    assert [(one.unit.unit, one.generation) for one in garbage.retire] == [(record.unit, 1)]
    collect(store, garbage)
    assert part_key(record.unit, 0, record.attempt) not in store.objects
    standing = read_unit(store, record.unit, 1)
    assert standing is not None
    assert standing.state == "retired"
    assert unit_key(record.unit, 0) in store.objects, "unit records are never deleted"


def test_what_a_killed_attempt_left_goes_once_its_source_has_moved_on() -> None:
    """There is no record of the unit, and never will be: only the attempt's note says what it was read from."""
    store = MemoryStore()
    record = done(SPEC, whole(A))
    assert record.part is not None
    begin_attempt(store, note_of(record), 0, record.attempt)
    store.put_new(record.part.key, b"p")
    assert find_garbage(store, unchanged).keys == ()
    collect(store, find_garbage(store, lambda uri: None))
    assert [key.split("/")[1] for key in store.objects] == ["unit"]
    standing = read_unit(store, record.unit, 0)
    assert standing is not None
    assert (standing.state, standing.segment, standing.k) == ("retired", record.segment, record.k)


def test_a_part_committed_while_it_was_judged_abandoned_stays() -> None:
    """The collector loses the create of its `retired` record; what the record that won names is not its to delete."""
    store = MemoryStore()
    record = done(SPEC, whole(A))
    assert record.part is not None
    begin_attempt(store, note_of(record), 0, record.attempt)
    store.put_new(record.part.key, b"p")
    garbage = find_garbage(store, unchanged, abandon=True)
    assert record.part.key in garbage.keys
    commit_unit(store, record)
    collect(store, garbage)
    assert record.part.key in store.objects


def test_work_that_no_snapshot_has_is_given_up_only_when_asked() -> None:
    store = MemoryStore()
    head = release(store, [stage(store, done(SPEC, whole(A)))])
    collect(store, find_garbage(store, unchanged))
    staged = stage(store, done(SPEC, whole(B)))
    assert find_garbage(store, unchanged).keys == ()
    collect(store, find_garbage(store, unchanged, abandon=True))
    assert staged.part is not None
    assert staged.part.key not in store.objects
    assert set(head.files) <= set(store.objects)


def test_staged_rows_of_a_unit_that_the_head_has_from_units_cut_otherwise_are_garbage() -> None:
    """A group of small files that failed is worked file by file; what of it was committed as a group stays otherwise."""
    store = MemoryStore()
    group = stage(store, done(SPEC, Segment((*whole(A).pieces, *whole(B).pieces))))
    release(store, [stage(store, done(SPEC, whole(A))), stage(store, done(SPEC, whole(B)))])
    collect(store, find_garbage(store, unchanged))
    assert group.part is not None
    assert group.part.key not in store.objects


def halves(file: InputFile) -> list[Segment]:
    """A file cut in two."""
    return [Segment((Piece(file, "rows", start, start + file.size // 2),)) for start in (0, file.size // 2)]


def test_staged_rows_of_a_file_that_the_head_has_by_another_cut_are_garbage() -> None:
    """A plan that is refused a footer cuts its file as one piece; who is not refused it publishes another cut's units."""
    store, first, second = MemoryStore(), *halves(A)
    uncut = stage(store, done(SPEC, whole(A)))
    assert uncut.part is not None
    head = release(store, [stage(store, done(SPEC, first))])
    collect(store, find_garbage(store, unchanged))
    assert uncut.part.key in store.objects, "the head has half of the file"
    release(store, [stage(store, dataclasses.replace(done(SPEC, second), base=1))], kept=head.units)
    collect(store, find_garbage(store, unchanged))
    assert uncut.part.key not in store.objects


def test_a_unit_planned_on_the_very_head_is_wanted_although_the_head_has_its_pieces() -> None:
    """The head may lack that unit of the segment, or have the rows under other ids: each collection would take the work back."""
    store = MemoryStore()
    release(store, [stage(store, done(SPEC, whole(A), eof=False))])  # published without what failed
    collect(store, find_garbage(store, unchanged))
    earlier = stage(store, dataclasses.replace(done(SPEC, whole(A), 1, eof=False), base=0))
    wanted = stage(store, dataclasses.replace(done(SPEC, whole(A), 2, eof=False), base=1))
    in_flight = dataclasses.replace(done(SPEC, whole(A), 3), base=1)
    begin_attempt(store, note_of(in_flight), 0, in_flight.attempt)
    garbage = find_garbage(store, unchanged)
    assert [one.unit.unit for one in garbage.retire] == [earlier.unit]
    collect(store, garbage)
    assert wanted.part is not None
    assert wanted.part.key in store.objects
    assert attempt_key(in_flight.unit, 0, in_flight.attempt) in store.objects


def test_a_source_that_may_not_be_looked_at_says_nothing_and_others_are_still_judged() -> None:
    """A folder whose permissions were withdrawn would fail every collection, and with it the end of every run."""
    store = MemoryStore()
    hidden, moved = stage(store, done(SPEC, whole(A))), stage(store, done(SPEC, whole(B)))
    begun = done(SPEC, whole(input_file("a.jsonl", version="0")))
    begin_attempt(store, note_of(begun), 0, begun.attempt)

    def look(uri: str) -> str | None:
        if uri == A.uri:
            raise InputError(f"{uri}: permission denied")
        return "2"

    assert [one.unit.unit for one in find_garbage(store, look).retire] == [moved.unit]
    assert hidden.unit != moved.unit


def test_notes_of_the_end_of_attempts_that_never_began_are_garbage() -> None:
    store = MemoryStore()
    end_attempt(store, uuid_of("unit"), 0, uuid_of("a"), "the store was away")
    collect(store, find_garbage(store, unchanged))
    assert store.objects == {}


def test_giving_up_a_second_try_of_quarantined_rows_keeps_the_request_for_it() -> None:
    """`quarantine retry` was asked for by somebody; only what was made of it so far is given up."""
    store = MemoryStore()
    record = stage(store, dataclasses.replace(done(SPEC, whole(A)), rows_in=11, rows_quarantined=1))
    release(store, [record])
    retire_unit(store, record, 1, RETRY)
    begin_attempt(store, note_of(record), 2, uuid_of("again"))
    assert not find_garbage(store, unchanged).retire
    collect(store, find_garbage(store, unchanged, abandon=True))
    standing = read_unit(store, record.unit, 2)
    assert standing is not None
    assert (standing.state, standing.reason) == ("retired", RETRY)


def test_a_request_outlives_giving_up_beside_a_run_that_is_about_to_publish() -> None:
    """Found by the simulation (seed 91507): nothing is published when the unit is given up, and a moment later it is."""
    store = MemoryStore()
    record = stage(store, dataclasses.replace(done(SPEC, whole(A)), rows_in=11, rows_quarantined=1))
    retire_unit(store, record, 1, RETRY)
    begin_attempt(store, note_of(record), 2, uuid_of("again"))
    garbage = find_garbage(store, unchanged, abandon=True)
    release(store, [record])
    collect(store, garbage)
    standing = read_unit(store, record.unit, 2)
    assert standing is not None
    assert (standing.state, standing.reason) == ("retired", RETRY)


@pytest.mark.parametrize("tries", [1, 2])
def test_what_answers_a_request_and_is_given_up_before_it_is_published_asks_again(tries: int) -> None:
    """Found by the simulation (seed 85243): a run does what was asked for and dies, its work is given up, and only then does
    somebody publish the rows that the request is about."""
    store = MemoryStore()
    record = stage(store, dataclasses.replace(done(SPEC, whole(A)), rows_in=11, rows_quarantined=1))
    retire_unit(store, record, 1, RETRY)
    for generation in range(2, 1 + tries):
        commit_unit(store, dataclasses.replace(record, generation=generation, state="failed"))
    stage(store, dataclasses.replace(record, generation=1 + tries))
    garbage = find_garbage(store, unchanged, abandon=True)
    release(store, [record])
    collect(store, garbage)
    standing = read_unit(store, record.unit, 2 + tries)
    assert standing is not None
    assert (standing.state, standing.reason) == ("retired", RETRY)


def test_what_answers_a_request_and_is_published_asks_for_nothing() -> None:
    store = MemoryStore()
    record = stage(store, dataclasses.replace(done(SPEC, whole(A)), rows_in=11, rows_quarantined=1))
    retire_unit(store, record, 1, RETRY)
    again = stage(store, dataclasses.replace(record, generation=2))
    assert open_request(store, again, 0) == RETRY
    assert open_request(store, again, 2) == ""
    assert open_request(store, record, -1) == ""
    release(store, [again])
    assert [one.reason for one in find_garbage(store, unchanged).retire] == [""]


def test_an_attempt_at_a_published_unit_that_nobody_asked_to_redo_is_needless() -> None:
    store = MemoryStore()
    record = stage(store, dataclasses.replace(done(SPEC, whole(A)), rows_in=11, rows_quarantined=1))
    release(store, [record])
    retire_unit(store, record, 1)
    begin_attempt(store, note_of(record), 2, uuid_of("late"))
    collect(store, find_garbage(store, unchanged))
    assert not any("/attempt/" in key for key in store.objects)


def test_work_of_a_spec_that_was_replaced_before_it_was_planned_is_wanted() -> None:
    """A run that goes back to an earlier spec would lose its work to every collection, and never end."""
    store = MemoryStore()
    other = spec("other")
    first = release(store, [stage(store, done(SPEC, whole(A)))])
    release(store, [stage(store, done(other, whole(B)))], dropped=first.units, of=other)
    collect(store, find_garbage(store, unchanged))
    begun_before = stage(store, dataclasses.replace(done(SPEC, whole(input_file("c.jsonl"))), base=1))
    begun_since = stage(store, dataclasses.replace(done(SPEC, whole(input_file("d.jsonl"))), base=2))
    retired = [one.unit.unit for one in find_garbage(store, unchanged).retire]
    assert retired == [begun_before.unit]
    assert begun_since.unit not in retired


def test_marks_that_a_killed_probe_left_are_garbage() -> None:
    store = MemoryStore()
    key = mark(store)
    collect(store, find_garbage(store, unchanged))
    assert key not in store.objects


def test_attempts_that_neither_ended_nor_led_to_a_record_are_counted() -> None:
    store = MemoryStore()
    record = done(SPEC, whole(A))
    for attempt in "abc":
        begin_attempt(store, note_of(record), 0, uuid_of(attempt))
    end_attempt(store, record.unit, 0, uuid_of("b"), "stopped")
    assert list_unended(store, {}) == {(record.unit, 0): 2}
    assert list_unended(store, {record.unit: 0}) == {}


def note_of(record: UnitRecord) -> AttemptNote:
    return AttemptNote(record.unit, "run", record.spec, record.base, record.segment, record.k, record.pieces)


def test_what_a_dead_run_left_for_the_next_version_becomes_deletable_by_publishing_again() -> None:
    store = MemoryStore()
    head = release(store, [stage(store, done(SPEC, whole(A)))])
    collect(store, find_garbage(store, unchanged))
    leftover = data_key("", 1, uuid_of("dead"), 0, uuid_of("run"))
    store.put_new(leftover, b"d")
    assert list(list_unpublished(store, head)) == [leftover]
    assert leftover not in find_garbage(store, unchanged).keys
    again = republish(store, head, retain=1)
    assert again.entry.version == 2
    collect(store, find_garbage(store, unchanged))
    assert leftover not in store.objects
    assert set(again.files) <= set(store.objects)


def test_retained_snapshots_keep_their_files() -> None:
    store = MemoryStore()
    first = release(store, [stage(store, done(SPEC, whole(A)))], retain=2)
    release(store, [stage(store, done(SPEC, whole(B)))], dropped=first.units, retain=2)
    collect(store, find_garbage(store, unchanged))
    assert set(first.files) <= set(store.objects)
    release(store, [], kept=read_head(store).units, retain=2)  # type: ignore[union-attr]
    collect(store, find_garbage(store, unchanged))
    assert not set(first.files) & set(store.objects)


@dataclass
class Stale(MemoryStore):
    """A store whose listings leave one key out."""

    unlisted: str = ""

    def list(self, prefix: str) -> Iterator[Entry]:
        return (entry for entry in super().list(prefix) if entry.key != self.unlisted)


@pytest.mark.parametrize("lost", ["from the listing", "its manifest"])
def test_what_a_kept_snapshot_needs_stays_where_it_can_not_be_listed_or_read(lost: str) -> None:
    """A listing may lag, and a read may say `absent` once; what a collection deletes by that is gone for good."""
    store = Stale()
    first = release(store, [stage(store, done(SPEC, whole(A)))], retain=2)
    second = release(store, [stage(store, done(SPEC, whole(B)))], dropped=first.units, retain=2)
    collect(store, find_garbage(store, unchanged))
    manifests = {snapshot.entry.manifest.key for snapshot in (first, second)}
    assert manifests | set(first.files) <= set(store.objects)
    if lost == "its manifest":
        del store.objects[first.entry.manifest.key]
    else:
        store.unlisted = log_key(1)
    assert not set(find_garbage(store, unchanged).keys) & (manifests | set(first.files))


def test_success_stands_only_while_data_is_just_the_heads_files() -> None:
    store = MemoryStore()
    head = release(store, [stage(store, done(SPEC, whole(A)))])
    assert settle_success(store, head.entry, set(head.files), newest)
    store.put_new(data_key("", 1, uuid_of("y"), 0, uuid_of("z")), b"d")
    assert not settle_success(store, head.entry, set(head.files), newest)
    assert store.get(SUCCESS) is None, (
        "a run that died, or may not delete, has made a file since; a glob gives its rows too"
    )


def test_publishing_takes_success_away_before_the_entry_is_there() -> None:
    """A reader who sees the mark may glob; it must not stand for one moment beside new files."""
    store = MemoryStore()
    head = release(store, [stage(store, done(SPEC, whole(A)))])
    settle_success(store, head.entry, set(head.files), newest)
    store.operations.clear()
    release(store, [stage(store, done(SPEC, whole(B)))], kept=head.units)
    assert store.operations.index(("delete", SUCCESS)) < store.operations.index(("put_new", log_key(2)))


def test_a_changed_manifest_is_noticed() -> None:
    store = MemoryStore()
    head = release(store, [stage(store, done(SPEC, whole(A)))])
    store.objects[head.entry.manifest.key] += b"x"
    with pytest.raises(VerificationError, match="sha256"):
        read_head(store)


def assembly_of(store: MemoryStore) -> AssemblyRecord:
    """The record of the one data file."""
    key = next(key for key in store.objects if key.startswith(ASSEMBLY))
    return AssemblyRecord.from_json(store.objects[key])


UNIT_OF_A = done(SPEC, whole(A)).unit
READERS: dict[str, tuple[str, Callable[[MemoryStore], object]]] = {
    "unit": (UNIT, lambda store: read_unit(store, UNIT_OF_A, 0)),
    "unit, ruling": (UNIT, lambda store: read_rulings(store, [UNIT_OF_A], {UNIT_OF_A: 0})),
    "unit, in our way": (UNIT, lambda store: commit_unit(store, done(SPEC, whole(A), attempt="second"))),
    "log": (LOG, lambda store: read_entry(store, 1)),
    "log, newest": (LOG, read_head),
    "log, collection": (LOG, lambda store: find_garbage(store, unchanged)),
    "spec": (spec_key(SPEC.spec_id), lambda store: read_stored_spec(store, SPEC.spec_id)),
    "attempt": (ATTEMPT, lambda store: find_garbage(store, unchanged)),
}


DAMAGE = [b"x", b"{}", b"[]", b"null", b"\xff", b'{"pieces": 7}', b'{"a":' * 100_000]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda data: data[:20])
@pytest.mark.parametrize("reader", READERS)
def test_a_record_that_was_damaged_from_outside_is_named(reader: str, damage: bytes) -> None:
    """`KeyError: 'recipe'` and "a bug" would tell nobody which of a million objects to restore."""
    prefix, read = READERS[reader]
    store = MemoryStore()
    release(store, [stage(store, done(SPEC, whole(A)))])
    begin_attempt(store, note_of(done(SPEC, whole(B))), 0, uuid_of("b"))
    (key,) = (key for key in store.objects if key.startswith(prefix))
    store.objects[key] = damage
    with pytest.raises(VerificationError) as caught:
        read(store)
    assert f"memory://out/{key} can't be understood" in caught.value.message


@pytest.mark.parametrize("damage", [b"x", b"{}", b"[]", b"null"])
def test_a_damaged_record_of_a_data_file_is_named(damage: bytes) -> None:
    store = MemoryStore()
    release(store, [stage(store, done(SPEC, whole(A)))])
    record = assembly_of(store)
    (key,) = (key for key in store.objects if key.startswith(ASSEMBLY))
    store.objects[key] = damage
    with pytest.raises(VerificationError, match=key):
        read_assembled(store, record.base, record.assembly, record.k)
    with pytest.raises(VerificationError, match=key):
        commit_file(store, record)


def test_a_description_of_another_spec_or_none_is_named() -> None:
    """Readers take columns and dimensions from it."""
    store = MemoryStore()
    head = release(store, [stage(store, done(SPEC, whole(A)))])
    key = spec_key(SPEC.spec_id)
    assert read_stored_spec(store, SPEC.spec_id) == SPEC
    store.objects[key] = spec("other").document()
    with pytest.raises(VerificationError, match=f"memory://out/{key} describes another spec"):
        read_stored_spec(store, SPEC.spec_id)
    del store.objects[key]
    with pytest.raises(VerificationError, match=f"memory://out/{key} is gone"):
        republish(store, head, retain=1)


def test_a_newest_snapshot_without_its_manifest_is_named() -> None:
    store = MemoryStore()
    head = release(store, [stage(store, done(SPEC, whole(A)))])
    del store.objects[head.entry.manifest.key]
    with pytest.raises(VerificationError, match="memory://out: snapshot 1 has lost its manifest"):
        read_head(store)


def test_strays_beside_the_log_change_nothing_for_readers_publishers_and_collectors() -> None:
    """A copy named 12-old.json was version 12, whose manifest somebody had deleted: no command went on, none said why."""
    store = MemoryStore()
    release(store, [stage(store, done(SPEC, whole(A)))])
    strays = {
        f"{LOG}{name}": b"mine" for name in ("12-old.json", "13.json", ".00000000000000000002.json.swp", "notes.txt")
    }
    store.objects |= strays
    assert newest(store) == 1
    collect(store, find_garbage(store, unchanged))
    release(store, [stage(store, done(SPEC, whole(B)))])
    assert newest(store) == 2
    assert strays.items() <= store.objects.items()
