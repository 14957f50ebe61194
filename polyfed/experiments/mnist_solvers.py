"""The barycenter of whole layers, solved exactly and entropically: accuracy against strength, iterations and cost.

Strengths are in squared bins. The network is 784-32-10, so that a thousand iterations can be afforded; everything else
is that of `mnist-ten-agents`.
"""

import dataclasses

from polyfed.agents import Classifier
from polyfed.aggregation import WassersteinBarycenter
from polyfed.experiment import Variant
from polyfed.experiments.mnist_ten_agents import EXPERIMENT as TEN_AGENTS
from polyfed.recipes import fedavg

STRENGTHS = {"01": 0.1, "05": 0.5, "1": 1.0}
ITERATIONS = (10, 100, 1000)
PAPER = WassersteinBarycenter.paper()
VARIANTS = tuple(
    Variant(
        f"entropic_{name}_x{iterations}", dataclasses.replace(PAPER, regularization=strength, iterations=iterations)
    )
    for name, strength in STRENGTHS.items()
    for iterations in ITERATIONS
)

EXPERIMENT = fedavg(
    dataclasses.replace(
        TEN_AGENTS,
        name="mnist-solvers",
        agent=Classifier(hidden=(32,), learning_rate=0.5, batch_size=32),
        num_rounds=10,
        variants=VARIANTS,
        compare=("fedwb_paper_exact", "fedwb_lp", "fedwb_geometric", *(variant.method for variant in VARIANTS)),
    )
)
