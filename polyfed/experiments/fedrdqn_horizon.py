"""Is it the worst case, or a shorter horizon? FedRDQN beside DQNAvg with smaller discounts, on cart-poles.

Where the worst that can follow is the end, a share omega of it makes the future count less: at omega = 0.2 at least
`0.99 * 0.8 = 0.79` of the next value remains. So DQNAvg stands here with discounts of 0.99, 0.9 and 0.8 as well. Fleet
and tests are those of `fedrdqn-cartpole`; the replay of 10,000, targets copied every 100 steps and the discount of 0.99
were chosen for DQNAvg, on seeds 1000 to 1004. `fedrdqn_released` is the form of the authors' code.
"""

import dataclasses
from typing import Any

from polyfed.agents import HardUpdate
from polyfed.experiment import Variant
from polyfed.experiments.fedrdqn_cartpole import EXPERIMENT as CARTPOLE

RELEASED = CARTPOLE.variants
SHORTER = tuple(  # omega = 0 is DQNAvg
    Variant(f"dqnavg_0{tenths}", numbers=(("agent.worst_case.omega", 0.0), ("agent.discount", tenths / 10)))
    for tenths in (9, 8)
)

LEARNER: Any = CARTPOLE.agent
EXPERIMENT = dataclasses.replace(
    CARTPOLE,
    name="fedrdqn-horizon",
    agent=dataclasses.replace(LEARNER, discount=0.99, replay_capacity=10_000, target_update=HardUpdate(period=100)),
    variants=(*RELEASED, *SHORTER),
    compare=("dqnavg", *(variant.method for variant in (*SHORTER, *RELEASED))),
)
