"""A run whose environment knows its optimum."""

import dataclasses

import numpy as np
import synthetic_run

from polyfed.evaluation.yardstick import Yardstick

FINALS = {"fedavg": [481, 468, 427], "local_only": [480, 465, 330]}


def run(seeds=5, held_out=2, fleets=1, **record):
    """Two arms, and two rules: LRU is at 50 per cent, Belady at 95; with `fleets` LRU differs between them."""
    arms = [
        synthetic_run.arm(name, finals, seeds=seeds, points=5, held_out=held_out, personal=name == "local_only")
        for name, finals in FINALS.items()
    ]
    nothing = np.tile(np.linspace(-20.0, 20.0, 3 + held_out), (fleets, 1))
    optimum = nothing + 500.0 + 10.0 * np.arange(fleets)[:, None]
    between = lambda share: nothing + share * (optimum - nothing)  # noqa: E731
    own = 0.5 + 0.02 * np.arange(fleets)[:, None] * (fleets > 1)
    rules = {"nothing": nothing, "LRU": between(own), "Belady": between(0.95)}
    return dataclasses.replace(synthetic_run.run(arms, **record), yardstick=Yardstick("nothing", optimum, rules))
