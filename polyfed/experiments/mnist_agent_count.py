"""MNIST shared by 1, 2, 3, 4, 5 or 10 agents: rounds and seconds to a target, given --num-clients.

The paper (Pereira and Amini 2025, fig. 3 and table 1) reports more epochs with more agents, a spike from 4 to 5 that it
does not explain, and a shorter wall-clock time. Give `--local-steps` too, for one local epoch per round: 8000, 4000,
2656, 1984, 1600 or 800 samples, multiples of the batch. `--variation.seed` draws another split.
"""

import dataclasses

from polyfed.experiments.mnist_ten_agents import EXPERIMENT as TEN_AGENTS

EXPERIMENT = dataclasses.replace(TEN_AGENTS, name="mnist-agent-count", compare=("fedavg", "fedwb_paper"), num_rounds=40)
