"""How many steps per second does one core do of the families that are our own, compiled?

    .venv/bin/python benchmarks/family_speed.py --repeats 5

Actions by chance, drawn beforehand, in a scan that starts a new episode wherever one ends; one world, and 10 and 100
worlds side by side, per second of processor time of a process that is held on one core. CartPole stands beside them
for scale. Medians over repeats taken in turns, compilation apart. JSON on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ.setdefault("POLYFED_DEVICES", "1")

import polyfed  # noqa: F401  before JAX, so that it sees one device

# isort: split
import jax
import jax.numpy as jnp

from polyfed.environments import CartPole
from polyfed.environments.battery import Battery
from polyfed.environments.edge_cache import EdgeCache
from polyfed.environments.spaces import Discrete

STEPS = 200_000  # of all worlds together per timing
FAMILIES = (EdgeCache(), Battery(), CartPole())


def any_actions(environment: Any, shape: tuple[int, ...]) -> Any:
    """Actions by chance."""
    space, key = environment.action_space, jax.random.key(1)
    if isinstance(space, Discrete):
        return jax.random.randint(key, shape, 0, space.n, jnp.int32)
    return jax.random.uniform(key, (*shape, space.size), jnp.float32, -1.0, 1.0)


def stepping(environment: Any, worlds: int) -> Callable[[], Any]:
    """A compiled scan of `STEPS // worlds` steps of `worlds` worlds, resets included."""
    keys = jax.random.split(jax.random.key(0), worlds)
    params = jax.tree.map(lambda x: jnp.full(worlds, x), environment.nominal())
    actions = any_actions(environment, (STEPS // worlds, worlds))
    reset, step = jax.vmap(environment.reset), jax.vmap(environment.step)

    @jax.jit
    def scan(params: Any, actions: Any) -> Any:
        def one(carry: Any, inputs: Any) -> Any:
            t, action = inputs
            state, given = step(keys, carry, action, params)
            over = given.terminated | given.truncated
            fresh = lambda: reset(jax.vmap(lambda key: jax.random.fold_in(key, t))(keys), params)[0]  # noqa: E731
            choose = lambda x, y: jnp.where(over.reshape(over.shape + (1,) * (y.ndim - 1)), x, y)  # noqa: E731
            state = jax.lax.cond(
                jnp.any(over), lambda state: jax.tree.map(choose, fresh(), state), lambda state: state, state
            )
            return state, (given.reward.sum(), given.observation.sum())

        times = jnp.arange(len(actions), dtype=jnp.int32)
        return jax.lax.scan(one, reset(keys, params)[0], (times, actions))[1]

    jax.block_until_ready(scan(params, actions))
    return lambda: jax.block_until_ready(scan(params, actions))


def main() -> None:
    """Time every family in turns and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    found: dict[str, Any] = {
        "load_at_start": round(os.getloadavg()[0], 2),
        "unit": "steps per second of processor time, one core",
    }
    for environment in FAMILIES:
        ways = {
            f"{worlds} side by side" if worlds > 1 else "alone": stepping(environment, worlds)
            for worlds in (1, 10, 100)
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, run in ways.items():
                began = time.process_time()
                run()
                rates[name].append(STEPS / (time.process_time() - began))
        found[type(environment).__name__] = {name: round(statistics.median(x)) for name, x in rates.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
