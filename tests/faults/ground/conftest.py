"""The ground that tests of this folder work on."""

from pathlib import Path

import pytest
from faults.ground.model import save_letters
from faults.ground.scenarios import Ground


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of the model."""
    return save_letters(tmp_path_factory.mktemp("letters"))


@pytest.fixture
def ground(tmp_path: Path, letters: str) -> Ground:
    """A local folder."""
    return Ground(tmp_path, letters)


@pytest.fixture
def bucket(tmp_path: Path, letters: str, s3_bucket: str) -> Ground:
    """The loopback S3 server."""
    return Ground(tmp_path, letters, f"{s3_bucket}/ground")
