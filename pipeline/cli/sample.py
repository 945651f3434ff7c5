"""`embedpipe sample`"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.options import AsJson
from pipeline.cli.terminal import show, write_json


def sample(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the shards go.")],
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="How many texts.")] = 3000,
    shards: Annotated[int, typer.Option(min=1, metavar="K", help="Over how many files.")] = 4,
    file_format: Annotated[Literal["parquet", "jsonl"], typer.Option("--format", help="Of the files.")] = "parquet",
    as_json: AsJson = False,
) -> None:
    """Write real text to try things on: docstrings of this Python and its installed packages."""
    from pipeline.sample import write_sample

    written = write_sample(directory, rows=rows, shards=shards, file_format=file_format)
    if as_json:
        write_json(asdict(written))
        return
    show(f"{written.rows:,} texts from {written.packages:,} packages in {written.shards:,} files: {written.directory}")
    if written.rows < rows:
        show(f"{rows:,} were asked for, but this Python and its packages hold no more distinct ones")
