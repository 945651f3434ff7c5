"""Broken variants of collection: what may be deleted, and which units given up."""

from collections.abc import Sequence

from faults.simulation.binding import Replacement
from faults.simulation.mutation import after, before, mutant, put, rewrite

from pipeline.commit import collect, units
from pipeline.commit.keys import UnitFile
from pipeline.flow import maintenance


@mutant("A part without a record is taken for a dead run's.")
def parts_without_record_collected() -> Sequence[Replacement]:
    return rewrite(
        collect._Unnamed._by_its_record,
        ("return False  # no record yet", "return True  # no record yet"),
        owner=collect._Unnamed,
    )


@mutant("Data files made for the next version are collected.")
def data_of_next_version_collected() -> Sequence[Replacement]:
    return rewrite(collect._unpublished, ("base < version", "base <= version"))


@mutant("Assembly records for the next version are collected.")
def assemblies_of_next_version_collected() -> Sequence[Replacement]:
    return rewrite(collect._unpublished, ("number < version", "number <= version"))


@mutant("Manifests for the next version are collected.")
def manifests_of_next_version_collected() -> Sequence[Replacement]:
    return rewrite(collect._unpublished, ("number <= version and", "number <= version + 1 and"))


@mutant("Only the head's files are kept, whatever `oldest` says.")
def retained_files_collected() -> Sequence[Replacement]:
    return rewrite(collect._read_view, ("range(head.entry.oldest, head.entry.version)", "()"))


@mutant("Units are given up without a look at what the head covers.")
def retired_without_head() -> Sequence[Replacement]:
    return rewrite(collect._Needless.committed, ("return ", "return True or "), owner=collect._Needless)


@mutant("What was begun and has no record is given up.")
def begun_is_given_up() -> Sequence[Replacement]:
    return rewrite(collect.find_garbage, ("for note in notes\n        if needless.begun(note)", "for note in notes"))


@mutant("Sources are looked up before the records are listed.")
def source_looked_up_first() -> Sequence[Replacement]:
    early = "lookup = {uri: lookup(uri) for uri in __import__('faults.simulation.source').simulation.source.NAMES}.get"
    return rewrite(collect.find_garbage, before("parts = list_unit_files(store, PART)", early))


@mutant("A source that can't be looked at is taken for gone.")
def failed_lookup_is_gone() -> Sequence[Replacement]:
    return rewrite(
        collect._moved_on,
        ("suppress(InputError)", "suppress(Exception)"),
        ("versions.get(piece.uri, piece.version)", "versions.get(piece.uri)"),
    )


@mutant("What a late commit names is deleted with the unit it was to be given up with.")
def late_commit_collected() -> Sequence[Replacement]:
    return rewrite(collect.collect, ("if key not in needed", "if True"))


@mutant("Giving up leaves out a generation.")
def generation_left_out() -> Sequence[Replacement]:
    return rewrite(collect.find_garbage, ("record.generation + 1", "record.generation + 2"))


@mutant("Old log entries are deleted.")
def log_deleted() -> Sequence[Replacement]:
    old = "    yield from [entry.key for entry in store.list('_embedpipe/log/')][:-1]"
    return rewrite(collect._unpublished, after("version = view.head.entry.version", old))


@mutant("Records of units that are published are deleted.")
def records_deleted() -> Sequence[Replacement]:
    lines = (
        "    from pipeline.commit.keys import unit_key",
        "    yield from (unit_key(unit.unit, unit.generation) for unit in view.head.units)",
    )
    return rewrite(collect._unpublished, after("version = view.head.entry.version", *lines))


@mutant("What a dead run left for the next version is let lie.")
def leftovers_let_lie() -> Sequence[Replacement]:
    return put(collect.list_unpublished, lambda store, head: iter(()))


@mutant("Notes that an attempt ended stay when there is none that it began.")
def lone_ends_stay() -> Sequence[Replacement]:
    return put(collect._ends_without_beginning, lambda attempts: ())


@mutant("What is staged of a unit that is cut otherwise now, or was worked again without need, stays.")
def needless_units_stay() -> Sequence[Replacement]:
    return rewrite(collect._Needless._is_published, ("if self._view is None", "if True"), owner=collect._Needless)


@mutant("Rework that somebody asked for is given up, since the head has the rows.")
def rework_given_up() -> Sequence[Replacement]:
    needless = collect._Needless
    return [
        *rewrite(
            needless._is_published, ("return not _is_to_be_redone", "return True or _is_to_be_redone"), owner=needless
        ),
        *put(needless.request, lambda *_: "", owner=needless),
    ]


@mutant("A request to try rows again is forgotten where a unit is given up while somebody is about to publish it.")
def request_given_up() -> Sequence[Replacement]:
    return rewrite(
        collect._Needless.request,
        ("return open_request", 'return "" if published is None else open_request'),
        owner=collect._Needless,
    )


@mutant("A request to try rows again is forgotten where what answers it is given up before it is published.")
def answer_given_up() -> Sequence[Replacement]:
    return rewrite(units.open_request, ('while record is not None and record.state != "retired"', "while False"))


@mutant("Collections publish what there is once more and overtake whoever is about to publish.")
def collections_overtake() -> Sequence[Replacement]:
    return rewrite(maintenance.collect_garbage, ("or not abandon", "or False"))


@mutant("Units that the head has cut otherwise are given up, also those that were planned on that very head.")
def planned_on_head_given_up() -> Sequence[Replacement]:
    return rewrite(
        collect._Needless._is_published,
        ("unit.base < entry.version and ", ""),
        owner=collect._Needless,
    )


@mutant("Parts that an earlier collection has seen already are old, and collected.")
def old_parts_collected() -> Sequence[Replacement]:
    seen: set[str] = set()
    part = collect._Unnamed.part

    def by_age(unnamed: collect._Unnamed, file: UnitFile) -> bool:
        old = file.key in seen
        seen.add(file.key)
        return old or part(unnamed, file)

    return put(collect._Unnamed.part, by_age, owner=collect._Unnamed)


@mutant("What was staged of a group of small files stays for ever once one of them can't be read.")
def failed_groups_stay() -> Sequence[Replacement]:
    return rewrite(collect._Needless._is_published, (" or piece.uri in entry.failed", ""), owner=collect._Needless)
