"""`embedpipe evaluate`"""

import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pipeline.cli.options import AsJson, load_job, set_up_session
from pipeline.cli.render import columns
from pipeline.cli.reporting import open_reporter
from pipeline.cli.terminal import show, stderr, write_json
from pipeline.config.load import load_evaluation
from pipeline.errors import ConfigError, RefusedError
from pipeline.progress.reporters import duration_text, size_text

if TYPE_CHECKING:
    from pipeline.evaluate.evaluate import Evaluated
    from pipeline.quality.settings import Comparison

EXTRA = "pip install 'embedpipe[evaluate]'"

ConfigFile = Annotated[
    Path,
    typer.Option("--config", "-c", metavar="FILE", help="Model, sets and labels, as YAML; with --compare a job."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Put a value over the config's, as in `--set model.max_tokens=128`."
    ),
]


def evaluate(
    context: typer.Context,
    config_file: ConfigFile,
    overrides: Overrides = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Without labels: cheaper settings against float32, on a job's own input.")
    ] = False,
    rows: Annotated[
        int | None, typer.Option(min=100, metavar="ROWS", help="Texts of the sample, with --compare. Default: 2000.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the comparison: .svg, .png or .pdf.")] = None,
    as_json: AsJson = False,
) -> int:
    """Measure how good vectors are.

    On labelled sets that an evaluation's config names, or with --compare on the input of a job: which of its nearest neighbours
    cheaper settings lose.
    """
    if compare:
        return _compare(context, config_file, overrides, rows, plot, as_json)
    if rows is not None or plot is not None:
        raise ConfigError("--rows and --plot are for --compare")
    evaluation, console = load_evaluation(config_file, overrides or ()), stderr()
    set_up_session(context, console, evaluation.execution)
    if evaluation.retrieval:
        _require("pytrec_eval")
    from pipeline.evaluate.evaluate import evaluate as run

    with contextlib.redirect_stdout(sys.stderr), open_reporter(evaluation.execution, console) as reporter:
        evaluated = run(evaluation, reporter)
    if as_json:
        write_json(evaluated.to_json())
    else:
        show(_scores(evaluated))
    return RefusedError.exit_code if evaluated.short_of else 0


def _compare(
    context: typer.Context, file: Path, overrides: list[str] | None, rows: int | None, plot: Path | None, as_json: bool
) -> int:
    config = load_job(context, stderr(), file, overrides)
    if plot is not None:
        _require("matplotlib")
        from pipeline.evaluate.plot import check_picture

        check_picture(plot)
    from pipeline.flow.demand import compare

    comparison = compare(config, rows or config.quality.sample_rows)
    if as_json:
        write_json(comparison.to_json())
    else:
        show(_settings(comparison))
    if plot is not None:
        from pipeline.evaluate.plot import plot_comparison

        plot_comparison(comparison, plot)
    return 0


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"this needs {package}: {EXTRA}")


def _scores(evaluated: "Evaluated") -> Text:
    short = evaluated.short_of
    head = Text.assemble(
        f"{evaluated.model}: {evaluated.dimensions} dimensions, {evaluated.similarity} similarity, {evaluated.dtype}; "
        f"{evaluated.texts:,} texts embedded in {duration_text(evaluated.seconds)}"
    )
    lines: list[Sequence[str]] = []
    for one in evaluated.sets:
        for index, (measure, value) in enumerate(one.scores.items()):
            name = f"{one.name}.{measure}"
            least = f"short of {evaluated.minimum[name]:g}" if name in short else ""
            about = f"{one.size:,} {one.of}" if index == 0 else ""
            lines.append((name, f"{value:.4f}", least, about))
    return Text("\n").join([head, *columns(lines, right=(1,))])


def _settings(comparison: "Comparison") -> Text:
    head = Text(
        f"{comparison.model}: {comparison.texts:,} texts of the input, on {comparison.device}, {comparison.similarity} "
        f"similarity; {comparison.dimensions} dimensions, {comparison.max_tokens} tokens at most; texts taken blindly would have "
        f"a recall of {comparison.chance:.2%}"
    )
    lines: list[Sequence[str]] = [("setting", "recall@10", "vectors of 1M rows", "encoding 1M rows", "")]
    lines += [
        (
            one.name,
            f"{one.recall:.2%}",
            size_text(one.bytes_per_million),
            duration_text(one.seconds_per_million),
            one.config,
        )
        for one in comparison.settings
    ]
    notes = [Text(f"  not tried: {note}", style="dim") for note in comparison.notes]
    return Text("\n").join([head, *columns(lines, right=(1, 2, 3)), *notes])
