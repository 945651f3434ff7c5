"""Duplicate ids over a whole snapshot, counted exactly by DuckDB, which spills to disk when memory runs short."""

import tempfile
import threading
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa

MEMORY = "1GB"


class IdCounter:
    """Takes ids from many threads, then counts those that are there more than once. Use as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="embedpipe-verify-")
        self._connection = duckdb.connect(str(Path(self._folder.name) / "ids.duckdb"))
        self._connection.execute(f"SET memory_limit = '{MEMORY}'")
        self._connection.execute(f"SET temp_directory = '{self._folder.name}/spill'")
        self._lock = threading.Lock()
        self._made = False

    def __enter__(self) -> "IdCounter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._folder.cleanup()

    def add(self, ids: pa.ChunkedArray) -> None:
        """Take in some rows' ids (int64 or string, the same for all calls)."""
        with self._lock:
            self._connection.register("incoming", pa.table({"id": ids}))
            statement = "INSERT INTO ids SELECT id FROM incoming" if self._made else "CREATE TABLE ids AS FROM incoming"
            self._connection.execute(statement)
            self._connection.unregister("incoming")
            self._made = True

    def duplicates(self) -> tuple[int, list[str]]:
        """Rows whose id another row had before, and the first few such ids."""
        if not self._made:
            return 0, []
        grouped = "SELECT id, count(*) AS times FROM ids WHERE id IS NOT NULL GROUP BY id HAVING times > 1"
        total = self._connection.execute(f"SELECT coalesce(sum(times - 1), 0) FROM ({grouped})").fetchone()
        examples = self._connection.execute(f"SELECT id FROM ({grouped}) ORDER BY id LIMIT 3").fetchall()
        return int(total[0]) if total else 0, [str(row[0]) for row in examples]
