"""A row's text as the spec documents it, made here without the pipeline's own readers."""

from typing import Any

import pytest

from pipeline.check.source_rows import RawRow
from pipeline.check.source_text import columns_of, id_of, text_of


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        ({"text": "a"}, {"column": "text", "template": None}, "a"),
        ({"doc": {"body": {"text": "deep"}}}, {"column": "doc.body.text", "template": None}, "deep"),
        (
            {"doc.body": "a dot in the name", "doc": {"body": "nested"}},
            {"column": "doc.body", "template": None},
            "a dot in the name",
        ),
        ({"doc": None}, {"column": "doc.body", "template": None}, None),
        ({"text": 7}, {"column": "text", "template": None}, None),
        (None, {"column": "text", "template": None}, None),
        ({"t": "Title", "b": "Body"}, {"column": None, "template": "{t}\n\n{b}"}, "Title\n\nBody"),
        ({"t": "Title", "b": None}, {"column": None, "template": "{t}\n\n{b}"}, None),
        ({"n": 7, "x": True, "f": 0.5, "w": 1.0}, {"column": None, "template": "{n} {x} {f} {w}"}, "7 true 0.5 1"),
        ({"text": b"bytes"}, {"column": "text", "template": None}, "bytes"),
        ({"text": b"\xff"}, {"column": "text", "template": None}, None),
        ({"t": "{b}", "b": "x"}, {"column": None, "template": "{{{t}}}"}, "{{b}}"),
    ],
)
def test_text_of_columns_nested_columns_and_templates(values: Any, text: dict[str, Any], expected: str | None) -> None:
    assert text_of(RawRow(0, 0, values), text) == expected


def test_only_integers_and_strings_are_ids() -> None:
    assert id_of(RawRow(0, 0, {"id": "00123"}), "id") == "00123"
    assert id_of(RawRow(0, 0, {"id": 7}), "id") == 7
    assert id_of(RawRow(0, 0, {"id": True}), "id") is None
    assert id_of(RawRow(0, 0, {"id": None}), "id") is None


def test_only_the_columns_that_are_needed_are_read() -> None:
    assert columns_of({"column": None, "template": "{a.b} {c}"}, "id") == ["a", "a.b", "c", "id"]
    assert columns_of({"column": None, "template": None}, None) == ["text"]
