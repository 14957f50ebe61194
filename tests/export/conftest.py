"""A run whose clients keep a vector of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from polyfed.agents import Embedding
from polyfed.experiment import Experiment
from polyfed.runs import run


@pytest.fixture(scope="session")
def folder(tiny: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder; look, but do not touch."""
    experiment = tiny(num_rounds=2, agent={"embedding": Embedding(size=2)})
    made = run.create(tmp_path_factory.mktemp("export"), experiment, (0, 1), "polyfed run tiny.py --seeds 0-1")
    run.go_on(made, lambda progress: None, checkpoint_seconds=0)
    return made
