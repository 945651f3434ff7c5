"""The program: its commands, and how each ends.

Exit codes: 0 done · 1 a bug · 2 config or command line wrong, model refused · 3 input refused, data would be lost, or
quality is short of a demand · 4 incomplete, a re-run goes on · 5 too many rows rejected · 6 verification failed.
"""

import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer
from typer.main import get_command

import pipeline
from pipeline.cli import config, quarantine
from pipeline.cli.card import card
from pipeline.cli.convert_model import convert_model
from pipeline.cli.evaluate import evaluate
from pipeline.cli.files import files
from pipeline.cli.gc import gc
from pipeline.cli.logs import set_up_logging
from pipeline.cli.options import Session
from pipeline.cli.plan import plan
from pipeline.cli.run import run
from pipeline.cli.sample import sample
from pipeline.cli.status import status
from pipeline.cli.submit import submit
from pipeline.cli.terminal import keep_going, leave, stderr, write_json, write_line
from pipeline.cli.train import train
from pipeline.cli.verify import verify
from pipeline.errors import ConfigError, EmbedpipeError, IncompleteError, first_line
from pipeline.storage.environment import redact

EPILOG = (
    "Exit codes: 0 done, 1 a bug, 2 config or command line wrong, 3 input refused or data would be lost, "
    "4 incomplete but resumable, 5 too many rows rejected, 6 verification failed."
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(plan)
app.command()(status)
app.command()(verify)
app.command()(files)
app.command()(gc)
app.add_typer(quarantine.app, name="quarantine", help="Rows kept aside: list them, have them tried again.")
app.command()(submit)
app.command()(sample)
app.command("convert-model")(convert_model)
app.command()(train)
app.command()(evaluate)
app.command()(card)
app.add_typer(config.app, name="config", help="Show, check and describe configs.")


def _version(value: bool) -> None:
    if value:
        write_line(f"embedpipe {pipeline.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="More logs, and tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001  (its callback has done the work)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Sharded text in, partitioned Parquet with its sentence embeddings out; every row exactly once."""
    session = context.ensure_object(Session)
    session.debug = debug
    set_up_logging(stderr(), debug=debug)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code. Without `arguments` it is the program itself, and the process ends here."""
    if arguments is None:
        keep_going()
        leave(_run(sys.argv[1:]))
    return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    session = Session(as_json="--json" in arguments)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _call(list(arguments), session)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.TyperException as error:
        return _usage(session, error)
    except EmbedpipeError as error:
        _trace(session)
        return _fail(session, error.message, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(session, "stopped; what is committed stays, run again to go on", IncompleteError.exit_code)
    except MemoryError as error:  # Arrow's own is one, too
        _trace(session)
        return _fail(session, _short_of_memory(error), IncompleteError.exit_code)
    except Exception as error:  # the one place where a bug ends
        _trace(session)
        return _fail(session, _bug(error, session), 1)
    finally:
        signal.signal(signal.SIGTERM, before)


def _call(arguments: list[str], session: Session) -> int:
    command = get_command(app)
    with command.make_context("embedpipe", arguments, obj=session) as context:
        code = command.invoke(context)
        return code if isinstance(code, int) else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _usage(session: Session, error: typer.TyperException) -> int:
    message = error.format_message()
    if not message:  # the help of a group was asked for by giving no command, and has been printed
        return ConfigError.exit_code
    context = getattr(error, "ctx", None)
    help_text = f"\nsee `{context.command_path} --help`" if context is not None else ""
    return _fail(session, message + help_text, ConfigError.exit_code)


def _short_of_memory(error: MemoryError) -> str:
    return (
        f"this process ran out of memory ({first_line(error, named=True)}); what is committed stays. Run the same command again "
        "where there is more, or make the job smaller: docs/operations.md, Sizing, says by which settings"
    )


def _fail(session: Session, message: str, code: int) -> int:
    message = redact(message)
    stderr().print(f"error: {message}".replace("\n", "\n  "), style="red", markup=False, soft_wrap=True)
    if session.as_json:
        write_json({"state": "failed", "exit_code": code, "error": message})
    return code


def _trace(session: Session) -> None:
    if session.debug:
        stderr().print(redact(traceback.format_exc()), markup=False, soft_wrap=True)


def _bug(error: Exception, session: Session) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno}"
    how = "" if session.debug else " Run `embedpipe --debug …` with the same command for the traceback."
    return (
        f"this is a bug in embedpipe: {type(error).__name__}: {error} ({place}). What is committed stays.{how} "
        f"Please report it with that, the output of `embedpipe config show` and the version ({pipeline.__version__})"
    )
