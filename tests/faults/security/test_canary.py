"""A canary that could not die would prove nothing."""

import contextlib
import pickle
import socket
from pathlib import Path

import pytest
from faults.security.canary import Canary


def test_a_canary_dies_of_a_pickle_of_code_and_of_a_call(tmp_path: Path) -> None:
    with Canary(tmp_path) as canary:
        assert canary.dead == ""
        pickle.loads(canary.pickled())
        assert canary.dead == "its file exists"
        exec(canary.code())
        assert canary.dead == "its file exists"
        eval(canary.expression()).close()
        assert canary.dead == "its file exists"
        with contextlib.closing(socket.create_connection(("127.0.0.1", canary.port))) as connection:
            connection.sendall(b"x")
            connection.recv(1)
        assert canary.dead == "1 calls"
        assert canary.dead == ""


def test_libraries_told_to_trust_a_file_kill_it(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payloads are real: without this program's refusals and with other settings they would run."""
    import torch

    with Canary(tmp_path) as canary:
        (tmp_path / "weights.bin").write_bytes(canary.pickled())
        with contextlib.suppress(Exception):
            torch.load(tmp_path / "weights.bin", weights_only=False)
        assert canary.dead == "its file exists"
        with contextlib.suppress(Exception):
            torch.load(tmp_path / "weights.bin", weights_only=True)
        assert canary.dead == ""
