"""Segments: a partition of the files, stable when files come and go."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.source.records import Footer, InputFile, Piece, Segment, UnitPolicy
from pipeline.source.segments import GROUP_FRACTION, SMALL_FRACTION, cut_segments

from .conftest import PATIENT

POLICY = UnitPolicy(100, 128 << 10, 1 << 20)
SMALL, GROUP = POLICY.text_bytes // SMALL_FRACTION, POLICY.text_bytes // GROUP_FRACTION
SIZES = st.integers(0, 3 * SMALL) | st.integers(0, 4 * POLICY.text_bytes) | st.just(0)
FOOTERS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300 << 10)), max_size=8).map(
    lambda groups: Footer(tuple(rows for rows, _ in groups), tuple(size for _, size in groups))
)


def file(name: str, size: int, kind: str = "jsonl", compression: str = "none") -> InputFile:
    return InputFile(f"/in/{name}", "1", size, kind, compression, name)  # type: ignore[arg-type]


@st.composite
def inputs(draw: st.DrawFn) -> tuple[list[InputFile], dict[str, Footer]]:
    files, footers = [], {}
    for name in draw(st.lists(st.text("abc/", min_size=1, max_size=6), unique=True, max_size=30)):
        kind = draw(st.sampled_from(["parquet", "arrow", "jsonl", "text", "csv"]))
        packed = kind in ("jsonl", "text", "csv") and draw(st.booleans())
        files.append(file(name, draw(SIZES), kind, "gzip" if packed else "none"))
        if kind == "parquet" or (kind == "arrow" and draw(st.booleans())):
            footers[files[-1].uri] = draw(FOOTERS)
    return files, footers


def by_file(segments: list[Segment]) -> dict[str, list[Piece]]:
    pieces = sorted(
        (piece for segment in segments for piece in segment.pieces), key=lambda piece: (piece.file.uri, piece.start)
    )
    return {uri: list(group) for uri, group in itertools.groupby(pieces, lambda piece: piece.file.uri)}


@PATIENT
@given(inputs())
def test_every_file_is_covered_once_from_beginning_to_end(given: tuple[list[InputFile], dict[str, Footer]]) -> None:
    files, footers = given
    segments = cut_segments(files, footers, POLICY)
    found = by_file(segments)
    assert sorted(found) == sorted(file.uri for file in files)
    for one in files:
        pieces, footer = found[one.uri], footers.get(one.uri)
        assert {piece.measure for piece in pieces} == {"rows" if footer else "bytes"}
        assert pieces[0].start == 0
        assert pieces[-1].stop == (sum(footer.rows) if footer else one.size)
        assert all(a.stop == b.start for a, b in itertools.pairwise(pieces))
        if footer:  # on row-group boundaries
            assert {piece.stop for piece in pieces} <= {0, *itertools.accumulate(footer.rows)}
        elif one.format == "csv" or one.compression != "none" or one.format == "arrow":
            assert len(pieces) == 1
        else:
            assert all(piece.stop - piece.start <= POLICY.text_bytes for piece in pieces)
    for segment in segments:
        if len(segment.pieces) > 1:
            assert all(piece.file.size < SMALL for piece in segment.pieces)
            assert sum(piece.file.size for piece in segment.pieces) <= GROUP


@PATIENT
@given(inputs(), st.randoms())
def test_the_order_of_the_listing_does_not_matter(
    given: tuple[list[InputFile], dict[str, Footer]], shuffler: random.Random
) -> None:
    files, footers = given
    segments = cut_segments(files, footers, POLICY)
    shuffler.shuffle(files)
    assert cut_segments(files, footers, POLICY) == segments


def test_row_groups_are_gathered_up_to_a_units_caps_and_never_split() -> None:
    big = 1 << 20
    one = file("a.parquet", big, "parquet")
    footer = Footer((40, 60, 1, 500, 0, 20), (10, 10, 10, 10, 0, 200 << 10))
    pieces = [piece for segment in cut_segments([one], {one.uri: footer}, POLICY) for piece in segment.pieces]
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 100), (100, 101), (101, 601), (601, 621)]


def test_one_more_file_disturbs_a_group_or_two() -> None:
    """Groups that only a cap ends would all move up by one file behind it, and all be embedded again."""
    for largest in (10, SMALL // 10, SMALL - 1):
        dice = random.Random(largest)
        files = [file(f"{number:05}", dice.randint(largest // 2, largest)) for number in range(0, 3000, 2)]
        before = cut_segments(files, {}, POLICY)
        assert len(before) < len(files) / 2
        disturbed = []
        for _ in range(50):
            added = file(f"{dice.randrange(3000) | 1:05}", dice.randint(1, largest))
            disturbed.append(len({*before} - {*cut_segments([*files, added], {}, POLICY)}))
        assert sum(disturbed) / len(disturbed) < 2
        assert max(disturbed) <= 6
