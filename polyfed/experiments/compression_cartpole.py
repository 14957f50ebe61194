"""Three cart-poles that average with fewer and fewer bytes on the way up: what is a byte worth?

The fleet and the learner of `cartpole-poles`; the arms differ in what happens to the messages of the clients. What the
server sends back is whole in all of them.
"""

import dataclasses

from polyfed.exchange import HalfPrecision, Int8, TopK
from polyfed.experiment import Variant
from polyfed.experiments.cartpole_poles import EXPERIMENT as POLES
from polyfed.recipes import fedavg

ARMS = (
    Variant("half_precision", transforms=(HalfPrecision(),)),
    Variant("int8", transforms=(Int8(),)),
    Variant("top_10_percent", transforms=(TopK(0.1),)),
    Variant("top_1_percent", transforms=(TopK(0.01),)),
    Variant("top_1_percent_int8", transforms=(TopK(0.01), Int8())),
)

EXPERIMENT = fedavg(
    dataclasses.replace(
        POLES,
        name="compression-cartpole",
        variants=ARMS,
        compare=(*(arm.method for arm in ARMS), "local_only"),
    )
)
