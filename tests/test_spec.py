"""Identity: ids on the store outlive the program that made them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records import EXTRACTION, input_file, whole

from pipeline import spec as spec_module
from pipeline.spec import number_of, unit_id, units_of

segments = st.text("0123456789abcdef", min_size=32, max_size=32)


def test_a_unit_is_named_after_its_segment_and_its_number() -> None:
    """Another spelling would make every committed unit unknown."""
    segment = "0123456789abcdef" * 2
    assert [unit_id(segment, k) for k in (0, 12345)] == [
        "0123456789abcdef0123456700000000",
        "0123456789abcdef0123456700003039",
    ]


@given(segments, st.integers(0, 2**32 - 1))
def test_segment_and_number_can_be_told_from_the_name(segment: str, k: int) -> None:
    unit = unit_id(segment, k)
    assert (units_of(unit), number_of(unit), len(unit)) == (units_of(segment), k, 32)


def test_a_segment_that_would_be_cut_otherwise_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units are numbered: going on behind those of a program that cut elsewhere publishes rows twice, or not at all."""
    segment = whole(input_file("a.jsonl"))
    before = spec_module.segment_id("s", segment, EXTRACTION)
    monkeypatch.setattr(spec_module, "CUT_VERSION", spec_module.CUT_VERSION + 1)
    assert spec_module.segment_id("s", segment, EXTRACTION) != before
