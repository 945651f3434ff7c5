"""Small labelled sets on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

TOPICS = {
    "sea": ["waves on the beach", "a boat leaves the harbour", "the tide rises", "salt water and gulls"],
    "wood": ["moss on an old oak", "an owl in the fern", "the trail through the trees", "an axe and a log"],
    "town": ["the tram is late", "a market on the square", "the baker opens early", "clocks on the bridge"],
}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> str:
    """A JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, Any]:
    """An evaluation's sections, one set of each kind."""
    texts = [(topic, text) for topic, own in TOPICS.items() for text in own]
    pairs = [(one, two) for n, one in enumerate(texts) for two in texts[n + 1 :]]
    rated = [
        {"sentence1": a[1], "sentence2": b[1], "score": 4.0 * (a[0] == b[0]) + (len(b[1]) % 3) / 4} for a, b in pairs
    ]
    labelled = [{"sentence1": a[1], "sentence2": b[1], "label": int(a[0] == b[0])} for a, b in pairs]
    corpus = [{"_id": f"d{n}", "title": topic if n % 2 else "", "text": text} for n, (topic, text) in enumerate(texts)]
    qrels = [{"query-id": topic, "corpus-id": f"d{n}", "score": 1} for n, (topic, _) in enumerate(texts)]
    folder = tmp_path / "sets"
    return {
        "sts": {"scored": {"paths": [write_lines(folder / "scored.jsonl", rated)]}},
        "pairs": {"labelled": {"paths": [write_lines(folder / "labelled.jsonl", labelled)]}},
        "retrieval": {
            "topics": {
                "corpus": [write_lines(folder / "corpus.jsonl", corpus)],
                "queries": [write_lines(folder / "queries.jsonl", [{"_id": t, "text": f"about the {t}"} for t in TOPICS])],
                "qrels": [write_lines(folder / "qrels.jsonl", qrels)],
            }
        },
        "execution": {"engine": "serial"},
    }  # fmt: skip
