"""`embedpipe plan`"""

import typer

from pipeline.cli.options import AsJson, ConfigFile, Limit, Overrides, load_job
from pipeline.cli.render import render_preflight
from pipeline.cli.terminal import show, stderr, write_json


def plan(
    context: typer.Context,
    config_file: ConfigFile,
    overrides: Overrides = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a run would do: files, rows, tokens, time. Writes nothing."""
    from pipeline.flow.supervisor import plan_job

    preflight = plan_job(load_job(context, stderr(), config_file, overrides), limit=limit)
    if as_json:
        write_json(preflight.to_json())
    else:
        show(render_preflight(preflight))
