"""Pictures of results, as SVG or whatever else the file's name asks for. The only module that draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, StorageError
from pipeline.quality.settings import THIS_CONFIG, Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2a6fbb", "#d9822b", "#999999"

LINE = 0.05
"""Height of a name beside a plot, of the plot's."""


def check_picture(path: Path) -> None:
    """Raises ConfigError for a file that can't be drawn or written: better before hours of measuring."""
    kinds = _figure(1, 1).canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise ConfigError(f"{path}: no picture of this kind can be drawn; name it .svg, .png or .pdf")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.absolute().parent}")


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Recall over what vectors take, and over the time they take: one point a setting.

    Raises ConfigError as `check_picture` does, StorageError where it can't be written.
    """
    figure = _figure(13, 5)
    left, right = figure.subplots(1, 2, sharey=True)
    settings = comparison.settings
    stored = [one for one in settings if one.seconds_per_million == settings[0].seconds_per_million]
    computed = [settings[0], *(one for one in settings if one not in stored)]
    lowest = min(one.recall for one in settings)
    left.set_ylim(lowest - 0.05 * (1.05 - lowest), 1 + 0.05 * (1.05 - lowest))
    _points(left, [(one.bytes_per_million / 1e6, one.recall, one.name) for one in settings])
    _points(right, [(one.seconds_per_million, one.recall, one.name) for one in computed])
    left.set_xscale("log")
    left.set_xlabel("MB of vectors for a million rows")
    right.set_xlim(left=0)
    right.set_xlabel("seconds to encode the tokens of a million rows, one replica")
    left.set_ylabel("recall@10 against float32")
    figure.suptitle(f"{comparison.model}, {comparison.texts:,} texts, {comparison.similarity} similarity")
    _save(figure, path)


def plot_curve(points: Sequence[Mapping[str, Any]], metric: str, path: Path) -> None:
    """Loss and, where there is one, a metric by step. points: of curve.json. Raises as `plot_comparison` does."""
    figure = _figure(8, 4.5)
    left = figure.subplots()
    losses = [(point["step"], point["loss"]) for point in points if point["loss"] is not None]
    if losses:
        left.plot(*zip(*losses, strict=True), color=BLUE)
    left.set_xlabel("step")
    left.set_ylabel("loss, mean since the last point", color=BLUE)
    measured = [(point["step"], point["metrics"][metric]) for point in points if metric in point["metrics"]]
    if measured:
        right = left.twinx()
        right.plot(*zip(*measured, strict=True), color=ORANGE, marker="o")
        right.set_ylabel(
            f"{metric.partition('_')[2].replace('_ap', ' average precision')}, pairs held out", color=ORANGE
        )
    _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    """In inches. Without pyplot, which would look for a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _points(axes: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """(x, y, name). Names stand beside the axes, each on a line of its own: the dots of settings that are equally good lie on
    each other. y must have its limits already."""
    bottom, top = axes.get_ylim()
    names = sorted(points, key=lambda point: (-point[1], -point[0]))
    heights: list[float] = []  # of the axes
    for _, y, _ in names:
        heights.append(min((y - bottom) / (top - bottom), heights[-1] - LINE if heights else 1.0))
    for (x, y, name), height in zip(names, _raised(heights), strict=True):
        color = ORANGE if name == THIS_CONFIG else BLUE
        axes.plot(x, y, "o", color=color)
        axes.annotate(
            name, (x, y), xytext=(1.04, height), textcoords="axes fraction", va="center", fontsize=8, color=color,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkB": 3, "relpos": (0, 0.5)},
            annotation_clip=False,
        )  # fmt: skip
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)


def _raised(heights: Sequence[float]) -> list[float]:
    """The same, highest first, with none below the axes."""
    raised: list[float] = []
    for height in reversed(heights):
        raised.append(max(height, raised[-1] + LINE if raised else 0.0))
    return raised[::-1]


def _save(figure: "Figure", path: Path) -> None:
    import matplotlib as mpl

    check_picture(path)
    kind = path.suffix.removeprefix(".").lower()
    metadata = {"Date": None} if kind == "svg" else {}
    try:
        with mpl.rc_context({"svg.hashsalt": "embedpipe", "svg.fonttype": "none"}):
            figure.savefig(path, format=kind, metadata=metadata, dpi=120)
    except OSError as error:
        raise StorageError(f"{path}: the picture can't be written: {error.strerror}") from error
