"""Names of an output's files, as they are made and as they are read."""

from collections.abc import Callable

import pytest
from support.records import uuid_of

from pipeline.commit.keys import (
    UnitFile,
    assembly_key,
    attempt_end_key,
    attempt_key,
    data_key,
    log_key,
    manifest_key,
    parse_assembly_base,
    parse_data_base,
    parse_log_version,
    parse_manifest_version,
    parse_unit,
    parse_unit_file,
    part_key,
    quarantine_key,
    unit_key,
)

UNIT_ID, OTHER_ID, HASH = uuid_of("a unit"), uuid_of("another"), "0a" * 32
PARSED: list[tuple[Callable[[str], object], str, object]] = [
    (parse_log_version, log_key(12), 12),
    (parse_manifest_version, manifest_key(12, HASH), 12),
    (parse_assembly_base, assembly_key(0, OTHER_ID, 3), 0),
    (parse_data_base, data_key("", 7, OTHER_ID, 10, UNIT_ID), 7),
    (parse_data_base, data_key("lang=en/a%2Fb=x/", 7, OTHER_ID, 10, UNIT_ID), 7),
    (parse_unit, unit_key(UNIT_ID, 10), (UNIT_ID, 10)),
    *(
        (parse_unit_file, key, UnitFile(key, UNIT_ID, 0, OTHER_ID))
        for key in (name(UNIT_ID, 0, OTHER_ID) for name in (part_key, quarantine_key, attempt_key, attempt_end_key))
    ),
]


@pytest.mark.parametrize(("parse", "key", "said"), PARSED)
def test_only_a_key_that_is_spelled_as_the_program_spells_it_is_one_of_its_own(
    parse: Callable[[str], object], key: str, said: object
) -> None:
    """Copies that somebody laid beside a record would be read as records, or collected as garbage."""
    assert parse(key) == said
    folder, _, name = key.rpartition("/")
    for stray in (
        f"{folder}/12-old.json", f"{folder}/0{name}", f"{folder}/.{name}.swp", f"{folder}/old-{name}", f"{folder}/kept/{name}",
        f"{key}.bak", f"{key}\n", f"mine/{key}", f"elsewhere/{name}", f"{folder}/{name.replace('-', '_')}x",
    ):  # fmt: skip
        assert parse(stray) is None, stray
