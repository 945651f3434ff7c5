"""The words of the sink room: what parts hold and what a data file is to be made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FolderRows:
    """Rows of a part that go to one partition folder."""

    folder: str  # "" without partitions, otherwise `column=value/…/`, encoded
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class SourceSlice:
    """Rows of one unit in a staged part or an older data file."""

    unit: str
    key: str  # of the file they lie in
    sha256: str  # of that file
    first_row: int
    rows: int
    bytes: int  # estimate of what they take in a data file
    file_bytes: int  # of the file they lie in


@dataclass(frozen=True, slots=True)
class DataFilePlan:
    """One data file to be written: the k-th of its assembly."""

    k: int
    folder: str  # "" or `column=value/…/`
    slices: tuple[SourceSlice, ...]

    @property
    def rows(self) -> int:
        """Rows the file will hold."""
        return sum(part.rows for part in self.slices)
