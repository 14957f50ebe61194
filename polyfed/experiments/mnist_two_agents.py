"""Two agents with half of MNIST each: how far the first aggregation lifts the global model.

The paper (Pereira and Amini 2025, fig. 4) reports a rise from about 0 to about 80 % at the first aggregation. Settings
are those of `mnist-ten-agents`; the agent that learns from everything is `pooled`.
"""

import dataclasses

from polyfed.experiments.mnist_ten_agents import EXPERIMENT as TEN_AGENTS
from polyfed.experiments.mnist_ten_agents import SAMPLES

EXPERIMENT = dataclasses.replace(
    TEN_AGENTS,
    name="mnist-two-agents",
    num_clients=2,
    local_steps=SAMPLES // 2,
    num_rounds=10,
    compare=("fedavg", "fedwb_paper", "fedwb_paper_exact", "local_only", "pooled"),
)
