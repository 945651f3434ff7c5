"""Measure speed and write docs/benchmarks.md.

    python -m jobs.bench [--only NAME …] [--rounds N]

What isn't measured this time keeps its last values, which stand in docs/benchmarks.json.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs.bench import report
from jobs.bench.contenders import BUDGETS, DECODERS_ON_GPU, DEFAULT, EXACT, GATED, ON_GPU, REPLICAS, TUNED, Contender
from jobs.bench.engine import measure_engine, measure_parity_of_many
from jobs.bench.models import save_bert_base, save_decoder
from jobs.bench.texts import DOCUMENTS, MIXED, TITLES, make_texts, texts_of
from jobs.bench.whole import measure_folding, measure_recipe, measure_whole
from jobs.figures.common import MODEL, PROJECT, keep, measured_with
from pipeline.model.resolve import resolve_model

DOCUMENT, VALUES, PLOT = (PROJECT / "docs" / f"benchmarks.{kind}" for kind in ("md", "json", "svg"))
TRIALS = Path(__file__).with_name("trials.md")
"""Written by hand; it stands at the end of the document."""
MAX_TOKENS, BERT_MAX_TOKENS = 256, 512
BERT_TEXTS = 128

SETTINGS = "settings"

Measure = Callable[[Path, str, int], dict[str, Any]]
"""A folder to work in, MiniLM's directory, and how many rounds."""

ENGINE: dict[str, tuple[str, Measure]] = {
    mix.name: (
        f"Engine alone, MiniLM, {mix.name}",
        lambda folder, model, rounds, mix=mix: measure_engine(  # type: ignore[misc]
            folder, model, make_texts(mix, mix.texts), max_tokens=MAX_TOKENS, rounds=rounds
        ),
    )
    for mix in (TITLES, MIXED, DOCUMENTS)
}
ENGINE["bert_base"] = (
    "Engine alone, BERT-base, mixed",
    lambda folder, model, rounds: measure_engine(
        folder / "bench", save_bert_base(folder, model), make_texts(MIXED, BERT_TEXTS), (DEFAULT, TUNED, EXACT, GATED),
        max_tokens=BERT_MAX_TOKENS, rounds=rounds,
    ),
)  # fmt: skip
ENGINE[SETTINGS] = (
    "The engine's own settings, MiniLM, mixed",
    lambda folder, model, rounds: measure_engine(
        folder,
        model,
        make_texts(MIXED, MIXED.texts),
        (DEFAULT, GATED, *BUDGETS, *REPLICAS),
        max_tokens=MAX_TOKENS,
        rounds=rounds,
    ),
)


@dataclass(frozen=True, slots=True)
class GpuRace:
    """One of the races on a GPU: texts that are all of one length."""

    title: str
    save: Callable[[Path, str], str]  # the model
    tokens: int  # of each text
    texts: int
    unit_texts: int
    contenders: tuple[Contender, ...] = ON_GPU

    def measure(self, folder: Path, minilm: str, rounds: int) -> dict[str, Any]:
        """See `measure_engine`."""
        model = self.save(folder, minilm)
        return measure_engine(
            folder / "bench", model, texts_of(self.tokens, self.texts, model), self.contenders,
            max_tokens=self.tokens, rounds=rounds, device="cuda", unit_texts=self.unit_texts,
        )  # fmt: skip


GPU = {
    "gpu_512": GpuRace("GPU, BERT-base, 512 tokens", save_bert_base, 512, 12_288, 1024),
    "gpu_50": GpuRace("GPU, BERT-base, 50 tokens", save_bert_base, 50, 65_536, 4096),
    "gpu_decoder": GpuRace("GPU, decoder-style embedder", save_decoder, 512, 2048, 512, DECODERS_ON_GPU),
}
ENGINE |= {name: (race.title, race.measure) for name, race in GPU.items()}
OTHERS: dict[str, tuple[Measure, Callable[[Mapping[str, Any]], str]]] = {
    "parity": (lambda folder, model, _: measure_parity_of_many(folder, model, MAX_TOKENS), report.parity_section),
    "whole": (
        lambda folder, model, rounds: measure_whole(folder / "whole", model, max_tokens=MAX_TOKENS, rounds=rounds),
        report.whole_section,
    ),
    "recipe": (lambda folder, model, rounds: measure_recipe(folder, model, rounds=rounds), report.recipe_section),
    "folding": (lambda folder, model, rounds: measure_folding(folder, model, rounds=rounds), report.folding_section),
}
NAMES = [*ENGINE, *OTHERS]


def main() -> None:
    """Measure one after the other, so that none disturbs another, and write after each."""
    parser = argparse.ArgumentParser(description="Measure what docs/benchmarks.md shows.")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    model = resolve_model(MODEL, None, None).directory
    for name in asked.only:
        if name in GPU and not torch.cuda.is_available():
            print(f"{name}: there is no GPU", flush=True)
            continue
        print(f"{name} …", flush=True)
        measure = ENGINE[name][1] if name in ENGINE else OTHERS[name][0]
        with tempfile.TemporaryDirectory(prefix=f"embedpipe-bench-{name}-", ignore_cleanup_errors=True) as folder:
            values = measure(Path(folder), model, asked.rounds)
        write(keep(VALUES, name, {"values": values}))
        print(section(name, values), flush=True)


def section(name: str, values: Mapping[str, Any]) -> str:
    """One measurement in Markdown."""
    return report.engine_section(ENGINE[name][0], values) if name in ENGINE else OTHERS[name][1](values)


def write(kept: Mapping[str, Any]) -> None:
    """Document and plot, from all measurements that are kept."""
    parts = [report.HEAD]
    engines = {ENGINE[key][0]: kept[key]["values"] for key in ENGINE if key in kept and key != SETTINGS}
    if engines:
        report.save_plot(engines, PLOT)
        parts.append(f"![Tokens per second of each contender]({PLOT.name})\n")
    parts += [
        f"{section(key, entry['values'])}\n\n<sub>`python -m jobs.bench --only {key}`, {measured_with(entry)}</sub>\n"
        for key in NAMES
        if (entry := kept.get(key))
    ]
    missing = [f"* {race.title}: not measured: no GPU was at hand" for name, race in GPU.items() if name not in kept]
    parts += ["\n".join(("## On a GPU\n", *missing, ""))] if missing else []
    parts.append(TRIALS.read_text(encoding="utf-8"))
    DOCUMENT.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
