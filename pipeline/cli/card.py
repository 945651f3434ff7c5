"""`embedpipe card`"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import Destination, JobFile, output_of
from pipeline.cli.terminal import write_text
from pipeline.errors import ConfigError


def card(
    output: Destination = None,
    config_file: JobFile = None,
    version: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="A snapshot that is still kept; default: the newest.")
    ] = None,
    quality: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="What `embedpipe evaluate --json` wrote, to be shown too. Any number of times."
        ),
    ] = None,
) -> None:
    """Print a snapshot's card: a README in Markdown.

    It tells model, revision, rows, columns, parity, quality and how to load them.
    """
    from pipeline.export.card import make_card

    write_text(make_card(output_of(output, config_file), version, [_read(path) for path in quality or ()]))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: the quality can't be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(
            f"{path}: the quality is not what `embedpipe evaluate --json` writes; expected one JSON object"
        )
    return found
