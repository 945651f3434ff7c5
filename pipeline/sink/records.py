"""The words of the sink room: what parts hold and what a data file is to be made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FolderRows:
    """Rows of a part that go to one partition folder: a Parquet file of their own, one after the other in the part."""

    folder: str  # "" without partitions, otherwise `column=value/…/`, encoded
    rows: int
    start: int  # byte of the part at which their file begins
    bytes: int  # of their file
    sha256: str  # of their file


@dataclass(frozen=True, slots=True)
class SourceSlice:
    """Rows of one unit in a Parquet file: an older data file, or that of a folder in a staged part."""

    unit: str
    key: str  # of the object that the file is, or lies in
    start: int  # byte of the object at which the file begins
    file_bytes: int  # of the file
    sha256: str  # of the file
    first_row: int  # in the file
    rows: int
    bytes: int  # estimate of what they take in a data file


@dataclass(frozen=True, slots=True)
class DataFilePlan:
    """One data file to be written: the k-th of its assembly."""

    k: int
    folder: str  # "" or `column=value/…/`
    slices: tuple[SourceSlice, ...]  # those of one file beside each other, so that it is read once

    @property
    def rows(self) -> int:
        """Rows the file will hold."""
        return sum(part.rows for part in self.slices)
