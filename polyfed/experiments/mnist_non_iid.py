"""Ten agents that see two or three digits each: what a split by label does to every reading of FedWB.

The split is that of McMahan et al. (2017, sec. 3): sorted by label, two shards each. Everything else is that of
`mnist-ten-agents`.
"""

import dataclasses

from polyfed.environments import LabelShards
from polyfed.experiments.mnist_ten_agents import EXPERIMENT as TEN_AGENTS

EXPERIMENT = dataclasses.replace(
    TEN_AGENTS,
    name="mnist-non-iid",
    variation=LabelShards(shards_per_client=2),
    compare=("fedavg", "fedwb_paper", "fedwb_paper_exact", "fedwb_values", "fedwb_geometric", "fedprox", "local_only"),
)
