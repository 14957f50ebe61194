"""FedWB first, FedAvg then: the switch at rounds 1, 2, 5 and 10, and when the model stalls.

Open question 1 of the paper (Pereira and Amini 2025). `switch_*` begins with the layer-wise entropic form that the
paper probably ran, `exact_switch_*` with the same solved exactly. Everything else is that of `mnist-ten-agents`.
"""

import dataclasses

from polyfed.aggregation import Stalled, Switch, WassersteinBarycenter, WeightedMean
from polyfed.experiment import Variant
from polyfed.experiments.mnist_ten_agents import EXPERIMENT as TEN_AGENTS
from polyfed.recipes import fedavg

MOMENTS = {"1": {"at_round": 1}, "2": {"at_round": 2}, "5": {"at_round": 5}, "10": {"at_round": 10}} | {
    "stalled": {"when_stalled": Stalled()}
}
FIRST = {"switch": WassersteinBarycenter.paper(), "exact_switch": WassersteinBarycenter.paper_exact()}
VARIANTS = tuple(
    Variant(f"{name}_{moment}", Switch(first, WeightedMean(), **when))
    for name, first in FIRST.items()
    for moment, when in MOMENTS.items()
)

EXPERIMENT = fedavg(
    dataclasses.replace(
        TEN_AGENTS,
        name="mnist-hybrid",
        variants=VARIANTS,
        compare=("fedwb_paper", "fedwb_paper_exact", *(variant.method for variant in VARIANTS)),
    )
)
