"""Distributed batch text embedding.

config → resolve → discover → plan → read → prepare → encode → stage → assemble → publish → verify · export

config   one YAML file → a frozen Config                 encode    token ids → float32 vectors, in the order given
resolve  names → content hashes → the Spec               stage     one Parquet part and the unit's commit record
discover globs → input files with versions               assemble  parts → data files of the right size
plan     what is covered, committed, pending             publish   the next snapshot, by one conditional create
read     a segment's rows, cut into units                verify    the published data against its records
prepare  texts → token ids, lengths, folded duplicates   export    snapshots → readers and warehouses
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow.dataset

    from pipeline.config.schema import Config
    from pipeline.flow.summary import Summary

__version__ = "0.1.0"


def run(config: "Config") -> "Summary":
    """Embed what `config` asks for and publish the next snapshot of its output.

    Raises an `EmbedpipeError` (pipeline/errors.py) when the job can't end with the output equal to the input.
    """
    from pipeline.flow.supervisor import run_job

    return run_job(config)


def open_snapshot(output: str, version: int | None = None) -> "pyarrow.dataset.Dataset":
    """The rows of a published snapshot (the newest unless `version` is given) as a pyarrow dataset.

    Raises `InputError` when nothing has been published at `output`.
    """
    from pipeline.export.snapshot import open_dataset

    return open_dataset(output, version)
