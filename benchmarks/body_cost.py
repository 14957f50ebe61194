"""What does a step of a MuJoCo body cost inside a compiled program, beside MuJoCo alone?

    .venv/bin/python benchmarks/body_cost.py --repeats 5

Processor time per step of one body under actions by chance, in µs: MuJoCo's own steps from Python, and a compiled scan
that calls for 1, 5 or 50 bodies at a time. Medians over repeats, taken in turns, compilation apart. JSON on standard
output.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("POLYFED_DEVICES", "1")

import polyfed  # noqa: F401  before JAX, so that it sees one device

# isort: split
import jax
import jax.numpy as jnp
import numpy as np

from polyfed.environments import BODIES
from polyfed.environments.mujoco import compile_body

STEPS = 2000  # of one body per timing


def alone(environment: Any) -> Callable[[], None]:
    """MuJoCo's own steps, reset where a body falls."""
    body = compile_body(type(environment), environment.params_class())
    start = np.zeros(3 * len(environment.rest))
    start[: len(environment.rest)] = environment.rest
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, environment.action_space.size))

    def run() -> None:
        physics = start
        for t, action in enumerate(actions):
            physics = start if t % 100 == 0 else body.step(physics, action)

    return run


def compiled(environment: Any, rows: int) -> Callable[[], None]:
    """A scan over `rows` bodies side by side, reset as often."""
    params = jax.tree.map(lambda x: jnp.full(rows, x), environment.nominal())
    keys = jax.random.split(jax.random.key(0), rows)
    start, _ = jax.vmap(environment.reset)(keys, params)
    actions = jax.random.uniform(
        jax.random.key(1), (STEPS // rows, rows, environment.action_space.size), jnp.float32, -1.0, 1.0
    )

    @jax.jit
    def scan(start: Any, actions: Any) -> Any:
        def step(state: Any, inputs: Any) -> tuple[Any, Any]:
            t, action = inputs
            new, given = jax.vmap(environment.step)(keys, state, action, params)
            new = jax.tree.map(lambda n, s: jnp.where(t % 100 == 0, s, n), new, start)
            return new, given.reward

        return jax.lax.scan(step, start, (jnp.arange(len(actions)), actions))[1]

    jax.block_until_ready(scan(start, actions))
    return lambda: jax.block_until_ready(scan(start, actions))


def main() -> None:
    """Time every family in turns and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    found: dict[str, Any] = {"load_at_start": os.getloadavg()[0], "unit": "µs of processor time per step of one body"}
    for environment in BODIES:
        ways = {"MuJoCo alone": alone(environment)}
        ways |= {f"compiled, {rows} a call": compiled(environment, rows) for rows in (1, 5, 50)}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, run in ways.items():
                began = time.process_time()
                run()
                times[name].append(1e6 * (time.process_time() - began) / STEPS)
        found[type(environment).__name__] = {name: round(statistics.median(x), 1) for name, x in times.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
