"""Broken variants of planning, assembling and publishing."""

from collections.abc import Sequence

from faults.simulation import stand_ins
from faults.simulation.binding import Replacement
from faults.simulation.mutation import mutant, put, rewrite

from pipeline.commit import assembly, snapshot
from pipeline.flow import engine, planning, publishing
from pipeline.plan import plan, refuse


@mutant("A snapshot takes the next free version, whatever it was made from.")
def next_free_version() -> Sequence[Replacement]:
    return rewrite(
        snapshot.publish,
        ("version = base.version + 1 if base else 1", "version = max(list_versions(store), default=0) + 1"),
    )


@mutant("Who loses a version tries the one after it.")
def loser_publishes_later() -> Sequence[Replacement]:
    again = (
        "import dataclasses",
        "    while not (created := create(store, log_key(entry.version), entry.to_json())).ours:",
        "        entry = dataclasses.replace(entry, version=entry.version + 1, base=entry.version)",
    )
    return rewrite(snapshot.publish, ("created = create(store, log_key(version), entry.to_json())", "\n".join(again)))


@mutant("The manifest is made from what data/ lists.")
def manifest_from_listing() -> Sequence[Replacement]:
    listed = (
        "from dataclasses import replace",
        "        names = [f'{planned.version}-{assembly.id}-{record.k}-' for record in records]",
        "        found = [(r, e) for r, n in zip(records, names) for e in job.store.list('data/') if n in e.key]",
        "        records = [replace(r, file=replace(r.file, key=e.key, bytes=e.size)) for r, e in found]",
        "        ",
    )
    return [
        *rewrite(publishing.publish_plan, ("units = assembled_units(", "\n".join(listed) + "units = assembled_units(")),
        *put(snapshot.check_assembled, lambda units: None),
    ]


@mutant("`oldest` is worked out anew and brings back versions whose files are gone.")
def oldest_not_carried() -> Sequence[Replacement]:
    return rewrite(snapshot.publish, ("max(base.oldest if base else 1, version", "max(1, version"))


@mutant("The source is listed before the head is read.")
def source_listed_before_head() -> Sequence[Replacement]:
    return rewrite(
        planning.plan_now,
        ("head = read_head(store)\n", "files = job.discover()\n    head = read_head(store)\n"),
        ("        files = job.discover()\n    else", "        pass\n    else"),
    )


@mutant("Rows of the snapshot before stay although the spec is another one.")
def specs_mixed() -> Sequence[Replacement]:
    return [
        *rewrite(refuse.check_spec, ("return False", "return True")),
        *rewrite(plan._is_same, ("return segment_id(spec_id, again, extraction) == segment", "return True")),
    ]


@mutant("A part that is gone is left out of its data file.")
def missing_part_left_out() -> Sequence[Replacement]:
    return [
        *rewrite(
            stand_ins.write_data_file,
            ("rows_of(_fetch(store, part))", "(rows_of(_fetch(store, part)) if store.get(part.key) else [])"),
            owner=stand_ins,
        ),
        *put(snapshot.check_assembled, lambda units: None),
    ]


@mutant("An assembly's identity leaves out generations, and what another driver made is not checked.")
def assembly_without_generations() -> Sequence[Replacement]:
    return [
        *rewrite(
            assembly.plan_assembly,
            (
                "[[u.unit, u.generation] for u in kept] + [[u.unit, u.generation] for u in added]",
                "[[u.unit] for u in kept] + [[u.unit] for u in added]",
            ),
        ),
        *rewrite(assembly.commit_file, ("if standing.slices != record.slices", "if False")),
    ]


@mutant("More rows may go than the user has allowed.")
def drop_not_refused() -> Sequence[Replacement]:
    return put(refuse.check_drop, lambda *_, **__: None)


@mutant("A run that only has to drop something publishes nothing.")
def drops_not_published() -> Sequence[Replacement]:
    return rewrite(publishing.needs_publishing, ("plan.committed or plan.dropped", "plan.committed"))


@mutant("A file that can't be read, and is new, is told of nowhere unless something else is published.")
def failures_not_published() -> Sequence[Replacement]:
    return rewrite(publishing.needs_publishing, ("without != entry.failed.keys()", "False"))


@mutant("Publishing again forgets what the snapshot is without.")
def republish_forgets_failed() -> Sequence[Replacement]:
    return rewrite(snapshot.republish, ("failed=head.entry.failed", "failed={}"))


@mutant("Kept rows of a rewritten file are named where they lay before.")
def kept_rows_not_moved() -> Sequence[Replacement]:
    return rewrite(assembly.assembled_units, ("_moved(unit, rewritten.get(unit.unit, []), replaced)", "unit"))


@mutant("Files of an assembly are numbered while they are added: two get one number.")
def files_numbered_twice() -> Sequence[Replacement]:
    return rewrite(assembly.plan_assembly, ("DataFilePlan(first + i,", "DataFilePlan(len(files) + i,"))


@mutant("Data files are named by their assembly alone.")
def data_named_by_assembly() -> Sequence[Replacement]:
    return rewrite(engine.Assembling.make, ("uuid.uuid4().hex", "'0' * 32"), owner=engine.Assembling)


@mutant("Nobody looks for the mark after a data file is there: it may have been set just before.")
def mark_not_looked_for() -> Sequence[Replacement]:
    return rewrite(engine.Assembling.make, ("clear_success(store)", "pass"), owner=engine.Assembling)


@mutant("What the head has of a file stays, though the file is cut into other segments now.")
def recut_units_kept() -> Sequence[Replacement]:
    return put(plan._sort_out_recut, lambda match, segments: (match.kept, ()))


@mutant("Rows of an unlisted file go when they are to be worked again, which nobody can.")
def unlisted_units_redone() -> Sequence[Replacement]:
    return rewrite(plan.match_head, ("again = redo if len(listed) == len(pieces) else frozenset()", "again = redo"))


@mutant("What the head is without, and is not listed any more, is forgotten.")
def unlisted_failures_forgotten() -> Sequence[Replacement]:
    return put(publishing._still_without, lambda planned: {})


@mutant("Who loses a version says that it has published it.")
def loser_ends_well() -> Sequence[Replacement]:
    return rewrite(snapshot.publish, ("if not created.ours:", "if False:"))


@mutant("A run replaces another spec though nobody said so.")
def replaces_unasked() -> Sequence[Replacement]:
    return rewrite(refuse.check_spec, ("if replace or (", "if True or ("))


@mutant("Only the newest version is kept, whatever the config says.")
def retain_ignored() -> Sequence[Replacement]:
    return rewrite(snapshot.publish, ("version - retain + 1", "version"))


@mutant("Older versions that are to be kept no longer stay until something else is published.")
def kept_too_long() -> Sequence[Replacement]:
    return rewrite(publishing.needs_publishing, ("entry.oldest < entry.version - retain + 1", "False"))


@mutant("What is staged and taken away by something outside is waited for.")
def lost_parts_awaited() -> Sequence[Replacement]:
    return put(publishing.retire_lost, lambda store, planned: 0)


@mutant("A request to try rows again is forgotten with what was taken away of the unit.")
def request_taken_away() -> Sequence[Replacement]:
    return rewrite(publishing.retire_lost, ("request or ", ""))


@mutant("A data file that was taken away before it was published is published all the same.")
def lost_data_published() -> Sequence[Replacement]:
    return rewrite(
        engine.Assembling.make,
        (" and _is_there(store, standing.file)", ""),
        owner=engine.Assembling,
    )


@mutant("Appending, a changed file takes the rows of one that isn't listed along with it.")
def append_drops_group() -> Sequence[Replacement]:
    return rewrite(plan.match_head, ("if append and len(listed) < len(pieces) and listed:", "if False:"))
