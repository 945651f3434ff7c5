"""The range reader against a plain file in memory."""

import io

from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.pinned import RangeReader, buffered

KIB = 1024
STEPS = st.lists(
    st.tuples(st.sampled_from(["read", "seek", "end", "line"]), st.integers(0, 700 * KIB)), min_size=1, max_size=12
)


@given(st.integers(0, 600 * KIB), STEPS)
def test_any_sequence_of_reads_and_seeks_gives_the_bytes_of_the_file(size: int, steps: list[tuple[str, int]]) -> None:
    """A wrong offset anywhere would pair rows with other rows' text."""
    data = b"".join(number.to_bytes(3, "big") for number in range(size // 3 + 1))[:size]

    def fetch(start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= size
        return data[start:stop]

    expected = io.BytesIO(data)
    with buffered(RangeReader(size, fetch)) as file:
        for step, number in steps:
            if step == "read":
                assert file.read(number) == expected.read(number)
            elif step == "line":
                assert file.readline(number) == expected.readline(number)
            elif step == "seek":
                assert file.seek(number) == expected.seek(number)
            else:
                back = min(number, size)
                assert file.seek(-back, io.SEEK_END) == expected.seek(-back, io.SEEK_END)
            assert file.tell() == expected.tell()


def test_the_window_grows_in_sequence_and_shrinks_after_a_jump() -> None:
    fetched: list[int] = []

    def fetch(start: int, stop: int) -> bytes:
        fetched.append(stop - start)
        return bytes(stop - start)

    size = 64 * KIB * KIB
    with buffered(RangeReader(size, fetch)) as file:
        file.seek(1000)
        file.read(10)
        file.seek(size // 2)
        while file.tell() < size:
            file.read(50 * KIB)
        assert fetched[0] <= 128 * KIB
        assert fetched[1] <= 128 * KIB
        assert max(fetched) == 8 * KIB * KIB
        assert len(fetched) < 15
