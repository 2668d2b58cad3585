"""Fixtures of the tests of the Python package: stores in fresh directories, and no thread left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import esker
import numpy as np
import pytest

RING_BYTES = 8 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[esker.Store]:
    """An empty store."""
    with esker.create(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def run(store: esker.Store) -> Iterator[esker.Run]:
    """A run that is being recorded, with commits on request only."""
    with store.run("run", ring_bytes=RING_BYTES, commit_interval=None) as opened:
        yield opened


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers from a fixed seed, which pytest prints where a test fails."""
    seed = 20240607
    print(f"seed {seed}")
    return np.random.default_rng(seed)
