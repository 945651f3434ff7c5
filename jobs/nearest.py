"""Ask a question of an embedpipe output: the nearest rows by cosine, found by DuckDB over plain Parquet.

python jobs/nearest.py OUTPUT QUESTION
"""

import argparse

import duckdb
from rich.console import Console
from rich.table import Table
from sentence_transformers import SentenceTransformer
from transformers.utils.logging import disable_progress_bar

import pipeline
from pipeline.export.snapshot import describe
from pipeline.model.resolve import resolve_model

NEAREST = """
    SELECT array_cosine_similarity(embedding::FLOAT[{dimensions}], $question::FLOAT[{dimensions}]) AS cosine,
           * EXCLUDE (embedding, token_count, truncated, text_hash)
    FROM read_parquet('{output}/data/**/*.parquet')
    ORDER BY cosine DESC
    LIMIT 5
"""


def main() -> None:
    """Embed the question as the rows were, query, print."""
    parser = argparse.ArgumentParser(description="The rows of an output that are nearest to a question.")
    parser.add_argument("output", help="local folder that `embedpipe run` has published to")
    parser.add_argument("question")
    asked = parser.parse_args()

    published = describe(asked.output)
    facts = pipeline.open_snapshot(asked.output).schema.metadata
    model = resolve_model(facts[b"embedpipe.model"].decode(), facts[b"embedpipe.revision"].decode() or None, None)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    question = SentenceTransformer(model.directory, device="cpu", local_files_only=True).encode(asked.question)
    query = NEAREST.format(dimensions=published.dimensions, output=published.root.replace("'", "''"))
    found = duckdb.execute(query, {"question": question.tolist()})

    table = Table(box=None, pad_edge=False, title=f"nearest to “{asked.question}”", title_justify="left", expand=True)
    cosine, *others = (column[0] for column in found.description)
    table.add_column(cosine, width=6)
    for name in others:
        table.add_column(name, ratio=1, no_wrap=True, overflow="ellipsis")
    for nearness, *values in found.fetchall():
        table.add_row(f"{nearness:.3f}", *(str(value).partition("\n")[0] for value in values))
    Console(highlight=False, emoji=False).print(table)


if __name__ == "__main__":
    main()
