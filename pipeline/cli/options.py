"""Options that several commands have, and what they amount to."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli.logs import set_up_logging
from pipeline.config.load import load_config
from pipeline.config.schema import Config, Execution
from pipeline.errors import ConfigError


@dataclass(slots=True)
class Session:
    """What holds for one call of the program, whatever the command."""

    debug: bool = False
    as_json: bool = False


ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The job, as YAML.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Put a value over the config's, as in `--set output.path=out`."),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, metavar="ROWS", help="Stop after so many rows; never publishes over a full snapshot."),
]
Address = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="A running Ray cluster, instead of a Ray of this job's own.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Destination = Annotated[
    str | None, typer.Argument(metavar="OUTPUT", help="The job's output.path; or give the job with --config.")
]
JobFile = Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="The job whose output is meant.")]


def load_job(
    context: typer.Context, console: Console, file: Path, overrides: list[str] | None, address: str | None = None
) -> Config:
    """The config with the command line's settings put over it; logs go on as it says."""
    extra = [f"execution.address={json.dumps(address)}"] if address is not None else []
    config = load_config(file, [*(overrides or ()), *extra])
    set_up_session(context, console, config.execution)
    return config


def set_up_session(context: typer.Context, console: Console, execution: Execution) -> None:
    """Logs go on as the config says."""
    session = context.find_object(Session) or Session()
    set_up_logging(console, json_lines=execution.log_format == "json", debug=session.debug)


def output_of(output: str | None, file: Path | None) -> str:
    """The output that a command is about."""
    if output is not None and file is None:
        return output
    if file is not None and output is None:
        return load_config(file).output.path
    raise ConfigError("name the output, or give the job with --config: one of the two")
