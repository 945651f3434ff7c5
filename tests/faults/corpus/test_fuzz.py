"""Damage by seed to good files of every format."""

from collections import Counter
from collections.abc import Iterator

import pytest
from faults.corpus.child import Child
from faults.corpus.formats import FILES
from faults.corpus.mutate import good, mutant

SEEDS, BATCH = 600, 100


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """The process that reads."""
    child = Child("faults.corpus.fuzz", tmp_path_factory.mktemp("fuzz"))
    yield child
    child.close()


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_a_damaged_file_is_read_or_refused_and_its_intact_rows_are_right(reader: Child, first: int) -> None:
    """Nothing but an error of the program's own comes of it: no other exception, no crash, no memory or time without end."""
    bad = {seed: outcome for seed in range(first, first + BATCH) if (outcome := reader.ask(str(seed))).bad}
    assert not bad


def test_several_damaged_pages_at_once_stay_within_the_memory_of_one(reader: Child) -> None:
    """Found by the soak: what stands where two columns' pages should begin claims 1.5 GiB, and pyarrow makes room for both."""
    assert not reader.ask("27156").bad


def test_seeds_give_damaged_files_of_every_format_and_the_same_each_time() -> None:
    mutants = [mutant(seed) for seed in range(3 * len(FILES))]
    assert {each.name for each in mutants} == set(FILES)
    assert mutants == [mutant(seed) for seed in range(3 * len(FILES))]
    whole = Counter(each.data == good(each.name) for each in mutants)
    assert whole[False] > 9 * whole[True]
