"""A film of a learned policy in a client's own world (the only door to Pillow)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.checks import in_range, one_of
from polyfed.environments import Body, Environment
from polyfed.errors import DamagedError, MissingExtraError
from polyfed.evaluation.trace import trace_episode
from polyfed.experiment import Experiment
from polyfed.recipes import arms
from polyfed.runs import store
from polyfed.runs.checkpoint import from_arrays, read_arrays
from polyfed.runs.files import writing
from polyfed.runs.run import weights_checksum
from polyfed.simulation.simulate import Simulation, fleet


def film(
    run: Path,
    out: Path,
    *,
    arm: str = "",
    client: int = 0,
    policy: str = "global",
    seed: int = -1,
    start: int = 0,
    fps: int = 50,
) -> dict[str, Any]:
    """Film one greedy episode as a GIF.

    Args:
      run: A run folder whose arm is complete.
      out: The GIF.
      arm: Method; the experiment's own if empty.
      client: Whose world.
      policy: `"global"`, or `"own"` for the client's.
      seed: Of the training run; the first if negative.
      start: Seed of the episode.
      fps: Frames per second.

    Returns:
      `{"film", "arm", "policy", "client", "return", "steps"}`.
    """
    _need_pillow()
    experiment, seeds = store.read_experiment(store.read_record(run))
    methods = arms(experiment)
    if not isinstance(experiment.environment, Environment):
        raise ValueError(f"{run} was trained on samples, which no film can show: film a run in an environment.")
    arm = arm or experiment.method
    one_of("--arm", arm, methods)
    in_range("--client", client, 0, experiment.num_clients - 1)
    in_range("--fps", fps, 1, 100, "frames per second")
    seed = seeds[0] if seed < 0 else seed
    simulation = Simulation(methods[arm], (seed,))
    name = (
        "global" if policy == "global" and not simulation.personal else f"client-{0 if experiment.pooled else client}"
    )
    agent, state = _learned(run / "arms" / arm, simulation.experiment, client, f"seed-{seed}/{name}")
    params = jax.tree.map(lambda x: x[client], fleet(experiment, seed))
    act = lambda observation: agent.policy(state, observation)  # noqa: E731
    states, total, steps = trace_episode(experiment.environment, act, params, jax.random.key(start))
    _save(_frames(experiment.environment, params, states), out, fps)
    return {"film": str(out), "arm": arm, "policy": name, "client": client, "return": total, "steps": steps}


def _need_pillow() -> None:
    """Raise `MissingExtraError` before anything is computed."""
    if importlib.util.find_spec("PIL") is None:
        raise MissingExtraError('A film needs a package that is not installed: pip install "polyfed[play]".')


def _save(frames: list[np.ndarray], out: Path, fps: int) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(frame) for frame in frames)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        first.save(out, save_all=True, append_images=others, duration=round(1000 / fps), loop=0, optimize=True)


def _frames(environment: Environment, params: Any, states: Any) -> list[np.ndarray]:
    if isinstance(environment, Body):
        from polyfed.environments import mujoco

        return mujoco.render(environment, params, states)
    from polyfed.environments.gymnasium import render

    return render(environment, params, states)


def _learned(path: Path, experiment: Experiment, client: int, name: str) -> tuple[Any, Any]:
    """A client's learner and its state with recorded weights; raises `DamagedError` if the file was edited."""
    agent = experiment.learner_of(0 if experiment.pooled else client)
    state = agent.init(jax.random.key(0), experiment.environment, 1)
    file = path / "weights" / f"{name}.safetensors"
    arrays = read_arrays(file, weights_checksum(path, name))
    if not arrays:
        raise DamagedError(f"{file} holds no weights.")
    return agent, agent.absorb(state, from_arrays(jax.tree.map(jnp.asarray, agent.share(state)), arrays, file))
