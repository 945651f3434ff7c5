"""Pictures of what was measured."""

import re
from itertools import pairwise
from pathlib import Path

from pipeline.evaluate.plot import LINE, plot_comparison
from pipeline.quality.settings import Compared, Comparison


def compared(name: str, recall: float, size: int, seconds: float) -> Compared:
    return Compared(name, "", recall, size, seconds, 384, 256, "float32")


def test_names_of_settings_that_are_equally_good_do_not_cover_each_other(tmp_path: Path) -> None:
    """Half of them lose next to nothing, and lie on one spot."""
    names = [f"{n} tokens" for n in range(9)]
    settings = [
        compared("float32, the model's own", 1.0, 1_536_000_000, 900.0),
        *(compared(name, 1.0 - n * 1e-4, 1_536_000_000, 890.0 + n) for n, name in enumerate(names)),
        *(compared(f"{n} dimensions", 0.3 + n * 1e-3, 48_000_000, 900.0) for n in range(4)),
    ]
    comparison = Comparison("m", "w", "cosine", "cpu", 2000, 384, 256, "", None, 0.005, tuple(settings), ())
    plot_comparison(comparison, tmp_path / "plot.svg")
    drawn = re.findall(
        r'<text [^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', (tmp_path / "plot.svg").read_text()
    )
    known = {one.name for one in settings}
    places = [(float(x), float(y)) for x, y, text in drawn if text in known]
    assert (
        len(places) == len(settings) + 10
    )  # beside the left plot all of them, beside the right one those encoded anew
    columns = {x: sorted(y for other, y in places if other == x) for x, _ in places}
    assert len(columns) == 2
    height = 5 * 72
    for ys in columns.values():
        assert all(below - above > 0.7 * LINE * height for above, below in pairwise(ys))
        assert ys[0] > 0
        assert ys[-1] < height
