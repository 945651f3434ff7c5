"""Who is taken for hung, and what counts as getting on."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.memory import MemoryStore

from pipeline.errors import TransientStorageError
from pipeline.flow import encoding, reading
from pipeline.flow.encoding import Encoding
from pipeline.flow.engine import Assembling, AssemblyTask
from pipeline.flow.reading import Reading
from pipeline.flow.staging import Staging
from pipeline.flow.throwaway import LOADING_S
from pipeline.flow.watchdog import Board, Worker
from pipeline.sink import assemble
from pipeline.sink.part import build_part
from pipeline.sink.records import DataFilePlan, SourceSlice
from pipeline.sink.schema import Layout
from pipeline.storage.environment import worker_environment
from pipeline.storage.local import LocalStore
from pipeline.storage.retry import retry

ONE, OTHER = Worker("node", 1, "start"), Worker("node", 2, "start")
TIMEOUT_S = 8.0


class Watched:
    """A board, asked as often as the engines ask it, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.board = Board(lambda: self.now)

    def until(self, end: float) -> list[tuple[float, int]]:
        """(when, process) of all that were told of up to `end`."""
        told = []
        while self.now < end:
            self.now += TIMEOUT_S / 4
            told.extend((self.now, late.worker.process) for late in self.board.overdue(TIMEOUT_S))
        return told


def test_a_worker_without_progress_is_told_of_again_until_it_is_gone() -> None:
    """Killing it may fail, or the answer be lost: its node is what is in trouble. Told of once, it'd be waited for for ever."""
    watched = Watched()
    watched.board.begin(ONE, "encode 1")
    assert watched.until(30) == [(10, 1), (20, 1), (30, 1)]
    watched.board.forget(ONE)
    watched.board.forget(OTHER)
    assert watched.until(60) == []
    assert watched.board.begin(OTHER, "encode 1") == 1, "it died over its task"


def test_who_is_told_of_and_gets_on_after_all_is_left_alone() -> None:
    watched = Watched()
    watched.board.begin(ONE, "encode 1")
    watched.board.begin(OTHER, "encode 2")
    assert watched.until(10) == [(10, 1), (10, 2)]
    watched.board.end(ONE, "encode 1")
    watched.now = 12
    watched.board.show(OTHER, 7)
    assert watched.until(20) == []
    assert watched.until(22) == [(22, 2)]


def test_nobody_is_accused_when_all_have_stood_still() -> None:
    """After Ctrl-Z, or on a machine that was frozen, the first look would find every healthy worker silent for an hour."""
    watched = Watched()
    watched.board.begin(ONE, "encode 1")
    assert watched.until(4) == []
    watched.now = 3600
    assert watched.until(3608) == []
    assert watched.until(3614) == [(3612, 1)]


def ask_in_vain(times: int) -> None:
    """A store that is away for so many tries."""
    answers = itertools.chain([TransientStorageError("503")] * times, itertools.repeat(None))

    def once() -> None:
        error = next(answers)
        if error is not None:
            raise error

    retry(once, lambda error: isinstance(error, TransientStorageError), sleep=lambda _: None)
