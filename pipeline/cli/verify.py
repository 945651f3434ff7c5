"""`embedpipe verify`"""

from typing import Annotated

import typer

from pipeline.cli.options import AsJson, Destination, JobFile, output_of
from pipeline.cli.render import render_report
from pipeline.cli.terminal import show, write_line
from pipeline.errors import VerificationError


def verify(
    output: Destination = None,
    config_file: JobFile = None,
    sample: Annotated[
        int, typer.Option(min=0, metavar="ROWS", help="Embed so many source texts again and compare the vectors.")
    ] = 0,
    source: Annotated[bool, typer.Option(help="Count the rows of source files that are unchanged.")] = True,
    model: Annotated[
        str | None, typer.Option(metavar="DIR", help="Model for --sample, where it isn't found under its name.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check the published data against its records and source.

    With --sample also against the model itself.
    """
    from pipeline.check import verify as checker

    report = checker.verify(output_of(output, config_file), sample=sample, source=source, model=model)
    if as_json:
        write_line(report.to_json())
    else:
        show(render_report(report))
    return 0 if report.passed else VerificationError.exit_code
