"""`embedpipe convert-model`"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.terminal import show
from pipeline.progress.reporters import count_text


def convert_model(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Model directory with .bin weights.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="New directory.")],
) -> None:
    """Copy a model with its .bin weights as safetensors.

    Runs no code that the files may hold.
    """
    from pipeline.model import convert

    converted = convert.convert_model(str(source), str(target))
    show(f"{target}: {count_text(len(converted), 'file')} converted to safetensors; use the directory as model.name")
