"""docs/benchmarks.md and its plot, made from docs/benchmarks.json."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.bench.contenders import DEFAULT, EXACT, GATED, GATED_COMPILED
from jobs.bench.whole import UNIT_ROWS, running_rate, strict_rate
from jobs.figures.common import table

OURS = (EXACT.name, GATED.name, GATED_COMPILED.name)
HEAD = """# Benchmarks

Written by `make bench`; the values for machines are in [benchmarks.json](benchmarks.json). One section alone:
`python -m jobs.bench --only NAME`. Contenders are processes of their own that have loaded their model before the clock starts
(but Daft, which loads it for each query), take turns round by round on the same texts with the same token limit, and may use
all cores. Shown are medians, and beside each how far its vectors are from sentence-transformers' own in float32. Machines differ
and are noisy: repeat it on yours. Peers are installed into `.bench/`, in the newest versions there are, when they are first
asked for.

"Best setting" is the fastest of batch sizes from 8 to 128 (on a GPU 128 to 2,048) in each number format the device multiplies
natively, tried on all of the texts; ONNX and OpenVINO run the model as sentence-transformers exports it, in the same sizes.
Neither graph optimisers nor `torch.compile` were tried for them, and no quantisation, which gives other vectors.
"""


def engine_section(title: str, found: Mapping[str, Any]) -> str:
    """A table of contenders on one mix, fastest last."""
    contenders = found["contenders"]
    median = {name: statistics.median(own["seconds"]) for name, own in contenders.items()}
    default = median[DEFAULT.name]
    rows = []
    for name in sorted(median, key=median.__getitem__, reverse=True):
        own = contenders[name]
        cells = [
            f"**{name}**" if name in OURS else name,
            f"{found['tokens'] / median[name]:,.0f}",
            f"{found['texts'] / median[name]:,.0f}",
            f"{default / median[name]:.2f}×",
            _bound(found, own, median[name]),
            "reference" if name == DEFAULT.name else f"{own['min_cosine']:.7f}",
            "" if name == DEFAULT.name else f"{own['max_relative_l2']:.1e}",
            ", ".join(f"{value:.1f}" for value in own["seconds"]),
            ", ".join(f"{key} {value}" for key, value in own["told"].items()),
        ]
        rows.append(cells)
    header = (
        "", "tokens/s", "texts/s", "against default", "of the bound", "lowest cosine", "largest relative L2",
        "seconds of each round", "setting",
    )  # fmt: skip
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in found["flop_per_s"].items())
    failed = [f"* {name}: did not take part: {why}" for name, why in found["failed"].items()]
    head = (
        f"{found['texts']:,} texts, p50 {found['characters']['p50']} and p95 {found['characters']['p95']} characters, "
        f"{found['tokens']:,} tokens at a limit of {found['max_tokens']}. The bound is this machine's rate of products at the "
        f"model's shapes in the same rounds: {rates}; of it counts what the model's products and attention need without padding."
    )
    parts = [f"## {title}", head, table(header, rows), *(["\n".join(failed)] if failed else [])]
    return "\n\n".join(parts)


def parity_section(found: Mapping[str, Any]) -> str:
    """Both precisions over many texts."""
    both = (EXACT.name, GATED.name)
    rows = [(name, f"{found[name]['min_cosine']:.7f}", f"{found[name]['max_relative_l2']:.1e}") for name in both]
    return f"## Parity over {found['texts']:,} mixed texts\n\n" + table(
        ("", "lowest cosine", "largest relative L2"), rows
    )


def whole_section(found: Mapping[str, Any]) -> str:
    """The whole job beside the engine alone."""
    job = running_rate(found["jobs"])
    engine = statistics.median(found["jobs"][0]["tokens"] / value for value in found["engine_seconds"])
    strict = strict_rate(found["jobs"], found["cores"])
    cosine = f"{min(job['min_cosine'] for job in found['jobs']):.7f}"
    rows = [
        ("engine alone, tokenising beside it", f"{engine:,.0f}", "", ""),
        ("whole job, S3 to S3, from the first unit's end to publication", f"{job:,.0f}", f"{job / engine:.1%}", cosine),
        ("the same, had nothing been read and tokenised before", f"{strict:,.0f}", f"{strict / engine:.1%}", cosine),
    ]
    return (
        f"## Whole job against the engine alone\n\n{found['rows']:,} mixed texts on an S3 server on this machine, embedded Ray, "
        f"`gated`, in turns, both in units of {UNIT_ROWS} texts; the server takes its share of the cores too. Readers work while "
        "the replica loads its model, so when the first unit ends they are ahead; the last row adds all of their time, on all "
        "cores.\n\n" + table(("", "tokens/s", "of the engine", "lowest cosine of what is published"), rows)
    )


def recipe_section(found: Mapping[str, Any]) -> str:
    """The whole job beside the plain recipe."""
    recipe = statistics.median(found["recipe_seconds"])
    cosine = found["min_cosine"]
    rows = [
        ("plain Ray Data recipe (float32, batch 32, all cores)", f"{recipe:.1f}", "1.00×", f"{cosine['recipe']:.7f}")
    ]
    for name, taken in found["job_seconds"].items():
        own = statistics.median(taken)
        rows.append((f"embedpipe, `{name}`", f"{own:.1f}", f"{recipe / own:.2f}×", f"{cosine[name]:.7f}"))
    return (
        f"## Whole job against the plain recipe\n\n{found['rows']:,} mixed texts from Parquet to Parquet. The recipe's seconds "
        "leave out the start of Ray; embedpipe's are those of the whole run, Ray's start, parity gate and publication "
        "included.\n\n" + table(("", "seconds", "against the recipe", "lowest cosine"), rows)
    )


def folding_section(found: Mapping[str, Any]) -> str:
    """Repeated texts are computed once."""
    distinct, repeated = (statistics.median(found["encode_seconds"][name]) for name in ("distinct", "repeated"))
    cosine = {name: f"{value:.7f}" for name, value in found["min_cosine"].items()}
    rows = [
        ("told apart", f"{distinct:.1f}", "", cosine["distinct"]),
        ("repeated", f"{repeated:.1f}", f"{distinct / repeated:.2f}×", cosine["repeated"]),
    ]
    return (
        f"## Folding\n\n{found['rows']:,} mixed texts, of which {found['share']:.0%} repeat others, and the same texts told "
        "apart by spaces behind them, so that the same tokens are computed for each: seconds of encoding.\n\n"
        + table(("", "seconds", "gain", "lowest cosine"), rows)
    )


def save_plot(found: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Bars of tokens per second, a panel for each engine section."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "embedpipe"
    figure, panels = pyplot.subplots(1, len(found), figsize=(5 * len(found), 4), squeeze=False, layout="constrained")
    for panel, (title, own) in zip(panels[0], found.items(), strict=True):
        rates = {name: own["tokens"] / statistics.median(one["seconds"]) for name, one in own["contenders"].items()}
        names = sorted(rates, key=rates.__getitem__)
        colours = ["#1f6f8b" if name in OURS else "#b8c4cc" for name in names]
        bars = panel.barh([name.replace("`", "") for name in names], [rates[name] for name in names], color=colours)
        cosines = [own["contenders"][name]["min_cosine"] for name in names]
        panel.bar_label(bars, [f" {cosine:.5f}" for cosine in cosines], fontsize=8)
        panel.set_title(title)
        panel.set_xlabel("tokens/s; at the bars: lowest cosine with sentence-transformers")
        panel.margins(x=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _bound(found: Mapping[str, Any], own: Mapping[str, Any], seconds: float) -> str:
    dtype = own["told"].get("dtype")
    return f"{found['flop'] / seconds / found['flop_per_s'][dtype]:.0%}" if dtype in found["flop_per_s"] else ""
