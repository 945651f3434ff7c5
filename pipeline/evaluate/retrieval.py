"""Retrieval sets as BEIR lays them out, checked as a whole before anything is computed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.evaluation import Retrieval
from pipeline.config.schema import Input
from pipeline.errors import InputError
from pipeline.evaluate.tables import BadRows, read_rows, shown

QUERY, DOCUMENT, SCORE = "query-id", "corpus-id", "score"
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])
UNQUOTED = ("tsv",)
"""As benchmarks write them."""

CHUNK_ROWS = 10_000

MOST_RELEVANT = 1000
"""The highest grade that is taken: trec_eval counts documents by grade, in a table as long as the highest one found, and what is
beyond its integers comes out as another number."""


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """The texts lie in Parquet files with `id` and `text`, ready to be embedded; a corpus may be large."""

    documents: Path
    queries: Path  # those with a judgement
    count: int  # documents
    judged: Mapping[str, Mapping[str, int]]  # query → document → how relevant it is, 0: not at all
    left_out: int  # queries without a judgement

    @property
    def unanswerable(self) -> int:
        """Queries for which no document is relevant of those that are judged."""
        return sum(not any(documents.values()) for documents in self.judged.values())


def read_retrieval(source: Retrieval, section: str, folder: Path) -> RetrievalSet:
    """Read a set, laying its texts down in `folder`. `section`: its place in the config, for messages.

    Raises InputError naming file and row for ids that are missing, there twice or unknown, texts that are none, and scores that
    aren't whole numbers up to `MOST_RELEVANT`.
    """
    documents, queries = folder / "documents.parquet", folder / "queries.parquet"
    ids = _write(documents, _texts(source.corpus, source.title, f"{section}.corpus", empty=True))
    texts = dict(_texts(source.queries, None, f"{section}.queries", empty=False))
    judged = _judgements(source, section, ids, texts)
    _write(queries, ((query, texts[query]) for query in judged))
    return RetrievalSet(documents, queries, len(ids), judged, len(texts) - len(judged))


def _texts(paths: Sequence[str], title: str | None, section: str, *, empty: bool) -> Iterator[tuple[str, str]]:
    """(id, text) of each row. empty: texts may be, as those of some documents are."""
    asked = Input(paths=tuple(paths), text="text", keep=("_id", *((title,) if title else ())))
    bad = BadRows(section)
    seen: set[str] = set()
    for row in read_rows(asked, UNQUOTED):
        name, text = row.values["_id"], row.values["text"]
        key = str(name)
        if row.problem:
            problem = row.problem
        elif name is None or isinstance(name, dict | list) or key == "":
            problem = f"column '_id' holds {shown(name)}; expected an id"
        elif key in seen:
            problem = f"id {shown(key)} is there twice"
        elif not (isinstance(text, str) and (text.strip() or empty)):
            problem = f"column 'text' holds {shown(text)}; expected text"
        elif title and isinstance(row.values[title], dict | list):
            problem = f"column {title!r} holds {shown(row.values[title])}; expected text"
        else:
            seen.add(key)
            yield key, f"{(title and row.values[title]) or ''} {text}".strip()
            continue
        bad.add(row, problem)
    bad.refuse()


def _write(path: Path, rows: Iterator[tuple[str, str]]) -> set[str]:
    """Lay texts down; their ids."""
    ids: set[str] = set()
    chunk: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for key, text in rows:
            ids.add(key)
            chunk.append({"id": key, "text": text})
            if len(chunk) == CHUNK_ROWS:
                writer.write_table(pa.Table.from_pylist(chunk, SCHEMA))
                chunk = []
        if chunk:
            writer.write_table(pa.Table.from_pylist(chunk, SCHEMA))
    return ids


def _judgements(
    source: Retrieval, section: str, documents: set[str], queries: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    asked = Input(paths=source.qrels, template=f"{{{DOCUMENT}}}", keep=(QUERY, DOCUMENT, SCORE))
    bad = BadRows(f"{section}.qrels")
    judged: dict[str, dict[str, int]] = {}
    for row in read_rows(asked, UNQUOTED):
        query, document, score = (row.values[name] for name in (QUERY, DOCUMENT, SCORE))
        relevance = _relevance(score)
        if row.problem:
            problem = row.problem
        elif str(query) not in queries:
            problem = f"query {shown(query)} is not among the queries"
        elif str(document) not in documents:
            problem = f"document {shown(document)} is not in the corpus"
        elif relevance is None:
            problem = f"column {SCORE!r} holds {shown(score)}; expected a whole number, at most {MOST_RELEVANT:,}"
        elif judged.get(str(query), {}).get(str(document), relevance) != relevance:
            problem = f"document {shown(document)} is judged twice for query {shown(query)}, and not alike"
        else:
            judged.setdefault(str(query), {})[str(document)] = relevance
            continue
        bad.add(row, problem)
    bad.refuse()
    if not any(relevance for of_query in judged.values() for relevance in of_query.values()):
        raise InputError(f"{section}.qrels: no document is relevant to any query in {', '.join(source.qrels)}")
    return judged


def _relevance(score: object) -> int | None:
    """0 for whatever is below; None for what is no grade."""
    try:
        number = float(score)  # type: ignore[arg-type]
        return max(0, int(number)) if number == int(number) and number <= MOST_RELEVANT else None
    except (TypeError, ValueError, OverflowError):
        return None
