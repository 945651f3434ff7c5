"""`embedpipe files`"""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from pipeline.cli.options import AsJson, Destination, JobFile, output_of
from pipeline.cli.terminal import write_json, write_line


def files(
    output: Destination = None,
    config_file: JobFile = None,
    version: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="A snapshot that is still kept; default: the newest.")
    ] = None,
    load: Annotated[
        Literal["duckdb", "spark", "clickhouse", "bigquery", "snowflake"] | None,
        typer.Option(help="Print the statement that loads them instead."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the data files of a snapshot, one a line.

    They hold exactly its rows, also while a run is going.
    """
    from pipeline.export.load import load_statement
    from pipeline.export.snapshot import describe, list_files

    place = output_of(output, config_file)
    if load is not None:
        write_line(load_statement(load, describe(place, version)).rstrip("\n"))
        return
    found = list_files(place, version)
    if as_json:
        write_json([asdict(file) for file in found])
    else:
        for file in found:
            write_line(file.uri)
