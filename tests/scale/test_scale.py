"""The measurements of docs/scale.md at a small size: that they measure what they say. The sizes that count take `make scale`."""

from pathlib import Path
from typing import Any

import pytest

import pipeline
from jobs.scale import planning, report, workers
from jobs.scale.job import DIMENSIONS, make_waiting_job, run_waiting, write_rows
from jobs.scale.rows import cost_us


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("planned")
    return {
        "files": planning.measure_files(folder / "files", 120),
        "committed": planning.measure_committed(folder / "committed", 60, 20),
        "manifest": planning.measure_manifest(folder / "manifest", 50),
    }


def test_each_file_is_a_segment_that_is_left_to_do(planned: dict[str, Any]) -> None:
    assert (planned["files"]["pending"], planned["files"]["committed"]) == (120, 0)


def test_the_records_written_are_those_a_run_would_find_committed(planned: dict[str, Any]) -> None:
    """Records that the plan passes over would measure a listing, not a resume."""
    assert (planned["committed"]["pending"], planned["committed"]["committed"]) == (0, 60)


def test_a_manifest_comes_back_with_all_its_units(planned: dict[str, Any]) -> None:
    assert planned["manifest"]["units"] == 50
    assert all(found["peak_bytes"] > 1 << 20 for found in planned.values())


def test_efficiency_is_waiting_over_all_time() -> None:
    """By hand: two workers, units of 2 s; after both first ones two more each, done in 5 s instead of 4."""
    assert workers.efficiency([2.0, 2.1, 4.5, 4.6, 7.0, 7.1], 2, 2.0) == pytest.approx(4 / 5)


def test_a_job_with_an_encoder_that_waits_publishes_its_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "in", 300, 100)
    job = make_waiting_job(tmp_path / "in", tmp_path / "out", execution__replicas=2, units__rows=50)
    told = run_waiting(job, tmp_path, cpus=4, unit_s=0.2)
    assert told["summary"]["rows"] == 300
    assert len(told["done_s"]) == 6
    assert told["summary"]["times"]["encode"] >= 6 * 200
    rows = pipeline.open_snapshot(str(tmp_path / "out")).to_table().to_pylist()
    assert {row["id"] for row in rows} == {str(number) for number in range(300)}
    assert {len(row["embedding"]) for row in rows} == {DIMENSIONS}


def test_the_document_shows_all_sections_and_reckons_with_them(planned: dict[str, Any]) -> None:
    runs = [{"rows": 10_000, "seconds": 12.0}, {"rows": 100_000, "seconds": 30.0}]
    values = {
        **planned,
        "workers": {
            "unit_s": 4.0, "unit_rows": 256, "ceiling": 20.0,
            "runs": [{"workers": 1, "units": 8, "efficiency": 0.99}],
        },
        "rows": {"fixed_s": 10.0, "runs": runs},
    }  # fmt: skip
    assert cost_us(values["rows"]) == [(10_000, pytest.approx(200.0)), (100_000, pytest.approx(200.0))]
    kept = {name: {"values": found, "date": "d", "version": "v", "machine": "m"} for name, found in values.items()}
    text = report.document(kept, "scale.svg")
    assert "| 1 | 8 | 99.0% |" in text
    assert "| 100,000 | 30.0 s | 200.0 µs |" in text
    assert "| units of 16,384 rows | 610,352 |" in text
    assert "20 units a second are 11.8 billion rows in ten hours" in text
    assert "Ten billion" not in report.document({"files": kept["files"]}, "scale.svg")
