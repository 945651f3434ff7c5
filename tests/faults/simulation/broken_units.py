"""Broken variants of creating records and of working units."""

from collections.abc import Sequence

from faults.simulation import stand_ins
from faults.simulation.binding import Replacement
from faults.simulation.mutation import after, mutant, rewrite

from pipeline.commit import units
from pipeline.flow import maintenance, planning, staging
from pipeline.plan import plan
from pipeline.storage import create


@mutant("Any answer to a put, an error too, is taken for success.")
def errors_are_success() -> Sequence[Replacement]:
    return rewrite(create._settle, ("refused = None if error.retry else error", "return None"))


@mutant("The store says 'exists', and what exists is not looked at.")
def existing_is_ours() -> Sequence[Replacement]:
    return rewrite(
        create._settle,
        (
            "if store.put_new(key, value):\n                return None",
            "store.put_new(key, value)\n            return None",
        ),
    )


@mutant("Whoever is told 'exists' has lost, and cleans up after itself.")
def losers_delete_their_part() -> Sequence[Replacement]:
    commit = "standing, ours = commit_unit(self.store, record)"
    return [
        *rewrite(create.create, ("Created(found == value, found)", "Created(False, found)")),
        *rewrite(
            staging.Staging.stage,
            after(commit, "        if not ours:", "            self.store.delete([part_key(*name)])"),
            owner=staging.Staging,
        ),
    ]


@mutant("A worker whose commit ended in an error deletes its part: the record may still have come through.")
def unknown_outcome_deletes() -> Sequence[Replacement]:
    suppressed = "with contextlib.suppress(StorageError):"
    delete = "            self.store.delete([part_key(task.unit, task.generation, unit.attempt)])"
    return rewrite(
        staging.Staging.stage,
        (
            f"{suppressed}  # without its note the attempt counts as one that died",
            f"{suppressed}\n{delete}\n        {suppressed}",
        ),
        owner=staging.Staging,
    )


@mutant("First look, then put without a condition.")
def check_then_put() -> Sequence[Replacement]:
    return rewrite(create._settle, ("store.put_new(key, value)", "look() is None and store.put(key, value) is None"))


@mutant("Records are put over what is there.")
def records_overwritten() -> Sequence[Replacement]:
    return rewrite(create._settle, ("store.put_new(key, value)", "store.put(key, value) is None"))


@mutant("The record is committed before its part is there.")
def record_before_part() -> Sequence[Replacement]:
    return rewrite(
        staging.Staging.stage,
        (
            "self._put(part_key(*name), part)",
            "part and FileRef(part_key(*name), len(part.data), part.rows, part.sha256)",
        ),
        after("standing, ours = commit_unit(self.store, record)", "        self._put(part_key(*name), part)"),
        owner=staging.Staging,
    )


@mutant("Parts are named by their unit, not by the attempt.")
def parts_named_by_unit() -> Sequence[Replacement]:
    return rewrite(
        staging.Staging.stage, ("unit.attempt)\n        record", "'0' * 32)\n        record"), owner=staging.Staging
    )


@mutant("The lowest generation rules.")
def lowest_generation_rules() -> Sequence[Replacement]:
    return rewrite(units.list_generations, (">= highest.get(parsed[0], 0)", "<= highest.get(parsed[0], 1 << 30)"))


@mutant("A source is not looked at again after it was read.")
def source_not_checked() -> Sequence[Replacement]:
    return [(stand_ins, "check_version", lambda uri, planned, look: look(uri) or planned)]


@mutant("A record is committed that does not balance.")
def balance_ignored() -> Sequence[Replacement]:
    return [
        *rewrite(units.commit_unit, ('if record.state == "done" and', "if False and")),
        *rewrite(
            staging.Staging._record,
            ("rows_in=out + prepared.rejected.num_rows", "rows_in=out + 1 + prepared.rejected.num_rows"),
            owner=staging.Staging,
        ),
    ]


@mutant("A unit that was given up is worked at the generation that gave it up.")
def generation_not_raised() -> Sequence[Replacement]:
    return rewrite(plan.make_plan, ("(r.k, r.generation + 1)", "(r.k, r.generation)"))


@mutant("Rework that was asked for is forgotten.")
def retry_forgotten() -> Sequence[Replacement]:
    return rewrite(planning.units_to_redo, (" or record.reason == RETRY", ""))


@mutant("A request to try quarantined rows again takes units for listed that were committed since.", crashes=True)
def retry_beside_a_run() -> Sequence[Replacement]:
    return rewrite(
        maintenance.retry_quarantine,
        ("max(generations.get(record.unit, 0), record.generation)", "generations[record.unit]"),
    )


@mutant("A request to try quarantined rows again is taken for made where the unit was given up meanwhile.")
def retry_lost() -> Sequence[Replacement]:
    return rewrite(
        maintenance.retry_quarantine,
        ('if standing.state != "retired" or standing.reason == RETRY:', "if True:"),
    )
