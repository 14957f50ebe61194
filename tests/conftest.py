"""What the tests share: two devices on any machine, programs compiled once, and an experiment that runs in a blink."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("POLYFED_DEVICES", "2")

import polyfed  # noqa: F401  before JAX, so that it sees two devices

# isort: split
import jax
import pytest

from polyfed.agents import DQN, HardUpdate, LinearDecay, Survival
from polyfed.environments import CartPole, Explicit
from polyfed.experiment import Evaluation, Experiment

MAX_MAPS = 30_000  # of memory, from which on compiled programs are let go

TINY = Experiment(
    name="tiny",
    environment=CartPole(max_steps=30),
    variation=Explicit({"half_length": (0.25, 0.5, 1.0)}),
    num_clients=3,
    agent=DQN(
        hidden=(16,),
        batch_size=8,
        replay_capacity=300,
        learning_starts=10,
        target_update=HardUpdate(period=15),
        exploration=LinearDecay(steps=50),
        survival=Survival.everything(),  # as in `local_only`, so that all arms have one client program
    ),
    num_rounds=6,
    local_steps=20,
    evaluation=Evaluation(every=2, episodes=2, held_out=Explicit({"half_length": (0.35,)}), num_held_out=1),
)

TINY_FILE = '''"""Three small cart-poles, for the tests."""
import dataclasses

from polyfed import recipes
from polyfed.agents import *
from polyfed.environments import *
from polyfed.experiment import Evaluation, Experiment
from polyfed.aggregation import *
from polyfed.exchange import *

EXPERIMENT = {experiment!r}
'''


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs that took long to compile, for all processes of this session; content decides, so bits stay."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)  # for the processes that tests start
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


@pytest.fixture(scope="module", autouse=True)
def released_programs() -> Iterator[None]:
    """Let go of compiled programs before they take all the memory maps that the system grants a process (65,530)."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAX_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Experiment]:
    """`tiny(num_rounds=4, agent={"discount": 0.9})`: the small experiment with some fields replaced."""

    def make(agent: dict[str, Any] | None = None, **changes: Any) -> Experiment:
        experiment = dataclasses.replace(TINY, **changes)
        return dataclasses.replace(experiment, agent=dataclasses.replace(experiment.agent, **(agent or {})))

    return make


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_file(experiment)`: a Python file such as a user writes, defining it as EXPERIMENT."""

    def write(experiment: Experiment = TINY) -> Path:
        path = tmp_path_factory.mktemp("files") / f"{experiment.name}.py"
        path.write_text(TINY_FILE.format(experiment=experiment))
        return path

    return write
