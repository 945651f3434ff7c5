"""`embedpipe sample`"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.options import AsJson
from pipeline.cli.terminal import show, write_json
from pipeline.progress.reporters import count_text


def sample(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the shards go.")],
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="How many texts.")] = 3000,
    shards: Annotated[int, typer.Option(min=1, metavar="K", help="Over how many files.")] = 4,
    file_format: Annotated[Literal["parquet", "jsonl"], typer.Option("--format", help="Of the files.")] = "parquet",
    as_json: AsJson = False,
) -> None:
    """Write real text to try things on.

    Docstrings of this Python and its installed packages; the same installation gives the same files.
    """
    from pipeline.sample import write_sample

    written = write_sample(directory, rows=rows, shards=shards, file_format=file_format)
    if as_json:
        write_json(asdict(written))
        return
    show(
        f"{count_text(written.rows, 'text')} from {count_text(written.packages, 'package')} in "
        f"{count_text(written.shards, 'file')}: {written.directory}"
    )
    if written.rows < rows:
        show(f"{rows:,} were asked for, but this Python and its packages hold no more distinct ones")
