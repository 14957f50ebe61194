"""Five hoppers with a leg ±50 % as thick: FedRDDPG against DDPGAvg and learning alone.

FedRDDPG and changes of ±50 % are of Hwang and Hong (2025); the radius of the leg is what Jin et al. (2022)
vary. Five clients, batches of 64, hidden layers of 400 and 300 ReLUs, Adam at 1e-3, noise of 0.1, targets that follow
by 0.005, a merge of all five networks every 100 steps, and omega = 0.2 are published or of the authors' code. Each seed
has a fleet of its own, and the nominal body is judged beside the clients', as there.

The published budget is a million steps per client: `--num-rounds 10000 --agent.replay-capacity 100000
--agent.learning-starts 10000`. What stands here is a hundredth of it, ours: 10,000 steps per client, of which the first
1,000 act at random. It shows that it works and what it costs, not who is better.
"""

import dataclasses

from polyfed.environments import Hopper, Uniform
from polyfed.experiments.fedrddpg_halfcheetah import EXPERIMENT as HALF_CHEETAH

EXPERIMENT = dataclasses.replace(
    HALF_CHEETAH,
    name="fedrddpg-hopper",
    environment=Hopper(),
    variation=Uniform(("leg_radius",), rho=0.5, each_seed=True),
)
