"""`embedpipe quarantine`"""

from typing import Annotated

import typer

from pipeline.cli.options import AsJson, Destination, JobFile, output_of
from pipeline.cli.render import quarantine_rows, render_quarantine
from pipeline.cli.terminal import show, write_json
from pipeline.progress.reporters import count_text

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_rows(
    output: Destination = None,
    config_file: JobFile = None,
    limit: Annotated[int, typer.Option(min=1, metavar="ROWS", help="Show at most so many rows.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the rows kept aside: where each comes from, and why."""
    from pipeline.flow.maintenance import list_quarantine

    table = list_quarantine(output_of(output, config_file))
    if as_json:
        write_json({"rows": table.num_rows, "shown": quarantine_rows(table, limit)})
    else:
        show(render_quarantine(table, limit))


@app.command()
def retry(output: Destination = None, config_file: JobFile = None, as_json: AsJson = False) -> None:
    """Have the next run work the units of these rows again, for when the cause is mended."""
    from pipeline.flow.maintenance import retry_quarantine

    rows = retry_quarantine(output_of(output, config_file))
    if as_json:
        write_json({"rows": rows})
    else:
        show(f"the next run tries {count_text(rows, 'row')} again" if rows else "no rows are quarantined")
