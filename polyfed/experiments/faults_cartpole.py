"""Three cart-poles in a world that fails: lost, late and partial messages, clients that vanish, and a quorum.

The fleet and the learner of `cartpole-poles`, averaged; the arms differ in what happens to messages on their way.
Probabilities were the first choice, and nothing was tuned.
"""

import dataclasses

from polyfed.exchange import DelayMessages, LoseMessages, PartialWork, Quorum, VanishAndReturn
from polyfed.experiment import Variant
from polyfed.experiments.cartpole_poles import EXPERIMENT as POLES
from polyfed.recipes import fedavg

ARMS = (
    Variant("lossy", transforms=(LoseMessages(0.5),)),
    Variant("late", transforms=(DelayMessages(0.5, most=4, exponent=0.5),)),
    Variant("away", transforms=(VanishAndReturn(leave=0.1, rounds=10.0),)),
    Variant("away_quorum", transforms=(VanishAndReturn(leave=0.1, rounds=10.0), Quorum(2))),
    Variant("partial", transforms=(PartialWork(0.5, least=0.25),)),
)

EXPERIMENT = fedavg(
    dataclasses.replace(
        POLES,
        name="faults-cartpole",
        variants=ARMS,
        compare=(*(arm.method for arm in ARMS), "local_only"),
    )
)
