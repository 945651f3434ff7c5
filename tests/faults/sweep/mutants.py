"""Ways to break the program that the sweep has to notice. Each changes this process, which has the program loaded."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any


def _errors_count_as_stored() -> None:
    from pipeline.errors import StorageError
    from pipeline.storage import create

    def settle(store: Any, key: str, value: bytes, look: object, sleep: object) -> None:
        with contextlib.suppress(StorageError):
            store.put_new(key, value)

    _replace(create._settle, settle)


def _half_written_files_stay() -> None:
    from pipeline.storage.local import LocalStore

    LocalStore.tidy = lambda self: 0


def _the_mark_is_never_taken_away() -> None:
    from pipeline.commit.success import clear_success

    _replace(clear_success, lambda store: None)


def _kept_columns_are_shifted() -> None:
    import dataclasses

    from pipeline.text.prepare import Preparer

    real = Preparer.prepare

    def prepare(self: Any, rows: Any, uris: Any) -> Any:
        prepared = real(self, rows, uris)
        column = prepared.rows.column_names.index("keep.origin")
        shifted = prepared.rows["keep.origin"].take([*range(1, prepared.rows.num_rows), 0])
        return dataclasses.replace(prepared, rows=prepared.rows.set_column(column, "keep.origin", shifted))

    Preparer.prepare = prepare


def _replace(real: object, other: object) -> None:
    """Put another function where modules of the program have this one."""
    for name, module in list(sys.modules.items()):
        if name.startswith("pipeline."):
            for attribute in [key for key, value in vars(module).items() if value is real]:
                setattr(module, attribute, other)


MUTANTS: dict[str, Callable[[], None]] = {
    "errors count as stored": _errors_count_as_stored,
    "half-written files stay": _half_written_files_stay,
    "the mark is never taken away": _the_mark_is_never_taken_away,
    "kept columns are shifted": _kept_columns_are_shifted,
}
