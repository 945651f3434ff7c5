"""`embedpipe run`"""

import contextlib
import sys
from typing import Annotated

import typer

from pipeline.cli.options import Address, AsJson, ConfigFile, Limit, Overrides, load_job
from pipeline.cli.render import render_summary
from pipeline.cli.reporting import open_reporter
from pipeline.cli.terminal import show, stderr, write_json

AllowDrop = Annotated[bool, typer.Option("--allow-drop", help="Publish although over 10% of the rows would go.")]
Replace = Annotated[bool, typer.Option("--replace", help="Publish over a snapshot made with other settings.")]


def run(
    context: typer.Context,
    config_file: ConfigFile,
    overrides: Overrides = None,
    limit: Limit = None,
    address: Address = None,
    allow_drop: AllowDrop = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> int:
    """Embed what is new or changed and publish the next snapshot. Run it again after any failure: it goes on."""
    from pipeline.flow.supervisor import run_job

    console = stderr()
    config = load_job(context, console, config_file, overrides, address)
    # Ray tells of dead workers on stdout, which is for the result alone.
    with contextlib.redirect_stdout(sys.stderr), open_reporter(config.execution, console) as reporter:
        summary = run_job(config, limit=limit, allow_drop=allow_drop, replace=replace, reporter=reporter)
    if as_json:
        write_json(summary.to_json())
    else:
        show(render_summary(summary))
    return summary.exit_code
