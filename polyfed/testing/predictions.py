"""Made-up rounds of predictions, for rules that merge nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from polyfed.testing.compare import an_update_of
from polyfed.types import ActionValues, Gaussians, Logits, Prediction, Probabilities, Update


def made_up_predictions(kind: type[Prediction], seed: int, num_clients: int) -> Update:
    """A made-up round in NumPy, for five states and three actions: what `kind` says, as its agents would.

    Args:
      kind: `Probabilities`, `Logits`, `Gaussians` or `ActionValues`. Give it with `functools.partial` where a function
        of seed and number of clients is asked for.
      seed: Of the numbers.
      num_clients: How many.

    Example:
      >>> from polyfed.types import Gaussians
      >>> made_up_predictions(Gaussians, seed=0, num_clients=4).payload.scale.shape
      (4, 5, 3)
    """
    random = np.random.default_rng(seed)
    numbers = 3 * random.normal(size=(2, num_clients, 5, 3)).astype(np.float32)
    heights = np.exp(numbers[0])
    leaves: dict[Any, tuple[np.ndarray, ...]] = {
        Probabilities: (heights / heights.sum(axis=-1, keepdims=True),),
        Logits: (numbers[0],),
        Gaussians: (numbers[0], np.exp(numbers[1] / 3)),
        ActionValues: (30 * numbers[0],),
    }
    make: Any = kind
    return an_update_of(make(*leaves[kind]), random.uniform(0.5, 2.0, size=num_clients))
