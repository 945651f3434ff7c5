"""`embedpipe submit`"""

from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Limit, Overrides, load_job
from pipeline.cli.run import AllowDrop, Replace
from pipeline.cli.terminal import stderr, write_text


def submit(
    context: typer.Context,
    config_file: ConfigFile,
    address: Annotated[str, typer.Option(metavar="URL", help="Of the cluster's dashboard, as in http://head:8265.")],
    overrides: Overrides = None,
    limit: Limit = None,
    allow_drop: AllowDrop = False,
    replace: Replace = False,
    follow: Annotated[bool, typer.Option(help="Show the job's output and end as it ends.")] = True,
) -> int:
    """Run the job on a Ray cluster through its Jobs API.

    The code it needs is sent along. Submit it again after any failure: it goes on.
    """
    config = load_job(context, stderr(), config_file, overrides)  # a mistake is told here, not minutes later over there
    from pipeline.flow.submit import submit_job

    return submit_job(
        config, address, limit=limit, allow_drop=allow_drop, replace=replace, follow=follow, show=write_text
    )
