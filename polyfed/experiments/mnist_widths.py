"""Nine agents with 32, 64 or 96 hidden units: nested slices, and alignment always, after a warm-up, or once.

Agents of a width hold the first units of one common initialisation, which is what nested slices (Diao et al. 2021) are
for; `--no-common-start` gives every agent an initialisation of its own, which is what alignment (Singh and Jaggi 2020)
is for. Everything else is that of `mnist-ten-agents`.
"""

import dataclasses

from polyfed.agents import Classifier
from polyfed.aggregation import AlignedMean, LocalOnly, Switch
from polyfed.experiment import Variant
from polyfed.experiments.mnist_ten_agents import EXPERIMENT as TEN_AGENTS
from polyfed.recipes import heterofl

WIDTHS = (32, 64, 96)
WARM_UP = 5  # rounds
ALIGNED = AlignedMean(own=True)
VARIANTS = (
    Variant("aligned", ALIGNED),
    Variant("aligned_warm", Switch(LocalOnly(), ALIGNED, at_round=WARM_UP)),
    Variant("aligned_once", Switch(Switch(LocalOnly(), ALIGNED, at_round=WARM_UP), LocalOnly(), at_round=WARM_UP + 1)),
)

EXPERIMENT = heterofl(
    dataclasses.replace(
        TEN_AGENTS,
        name="mnist-widths",
        num_clients=9,
        local_steps=864,  # of 888
        agent=Classifier(
            hidden=(max(WIDTHS),),
            learning_rate=0.5,
            batch_size=32,
            width=WIDTHS * 3,
        ),
        num_rounds=15,
        variants=VARIANTS,
        compare=(*(variant.method for variant in VARIANTS), "local_only"),
        evaluation=dataclasses.replace(TEN_AGENTS.evaluation, own=True),
    )
)
