"""Time of one merge, compiled: the Wasserstein barycenter against the mean. Prints JSON (see docs/results/speed.md)."""

from __future__ import annotations

import json
import statistics
import time

import jax
import jax.numpy as jnp

from polyfed.agents.networks import MLP
from polyfed.aggregation import AggregationRule, WassersteinBarycenter, WeightedMean
from polyfed.types import Update

NUM_CLIENTS, REPEATS = 10, 30


def milliseconds(rule: AggregationRule, update: Update) -> float:
    """Median of `REPEATS` merges, without compilation."""
    merge = jax.jit(lambda u: rule.aggregate((), u)[0])
    jax.block_until_ready(merge(update))
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(merge(update))
        times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times), 3)


def main() -> None:
    """Ten clients with the network 4-128-128-2."""
    keys = jax.random.split(jax.random.key(0), NUM_CLIENTS)
    payload = jax.vmap(lambda key: MLP(4, 2, hidden=(128, 128), activation="relu", key=key))(keys)
    update = Update(payload, jnp.ones(NUM_CLIENTS))
    rules = {
        "mean": WeightedMean(),
        "safe": WassersteinBarycenter.safe(),
        "paper_exact": WassersteinBarycenter.paper_exact(),
    }
    print(json.dumps({name: milliseconds(rule, update) for name, rule in rules.items()}))


if __name__ == "__main__":
    main()
