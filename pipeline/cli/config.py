"""`embedpipe config`"""

import json

import typer

from pipeline.cli.options import AsJson, ConfigFile, Overrides
from pipeline.cli.terminal import show, write_json, write_line
from pipeline.config.load import config_schema, dump_config, load_config

app = typer.Typer(no_args_is_help=True)


@app.command("show")
def show_config(config_file: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print the config as a run would see it, defaults written out."""
    config = load_config(config_file, overrides or ())
    if as_json:
        write_json(config.model_dump(mode="json"))
    else:
        write_line(dump_config(config).rstrip("\n"))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a config, for editors."""
    write_line(json.dumps(config_schema(), indent=2, ensure_ascii=False))


@app.command()
def check(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Check a config without looking at input, model or output."""
    load_config(config_file, overrides or ())
    show(f"{config_file}: well-formed")
