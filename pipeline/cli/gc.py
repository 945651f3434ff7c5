"""`embedpipe gc`"""

from typing import Annotated

import typer

from pipeline.cli.options import AsJson, Destination, JobFile, output_of
from pipeline.cli.terminal import show, write_json, write_line
from pipeline.progress.reporters import count_text


def gc(
    output: Destination = None,
    config_file: JobFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be deleted, and delete nothing.")] = False,
    abandon: Annotated[
        bool,
        typer.Option(
            "--abandon",
            help="Give up also what is committed or assembled but in no snapshot yet; a run that still wants it redoes it.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what no snapshot and no committed work refers to. Safe at any time, also while a run is going."""
    from pipeline.flow.maintenance import collect_garbage

    keys = collect_garbage(output_of(output, config_file), dry_run=dry_run, abandon=abandon)
    if as_json:
        write_json({"dry_run": dry_run, "objects": len(keys), "keys": keys})
        return
    for key in keys:
        write_line(key)
    verb = "would be" if dry_run else "were" if len(keys) != 1 else "was"
    show(f"{count_text(len(keys), 'object')} {verb} deleted")
