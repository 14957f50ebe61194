"""Ten cart-pole agents of different networks that distil every 1, 5 or 20 episodes: what does an event buy?

The fleet, worlds and public states of `fedhpd-cartpole`, 2,000 episodes an agent in every arm. An event costs ten
exchanges of 2,500 predictions, so distilling after every episode costs five times the bytes of the published d = 5
(`fedhpd`) and twenty times those of d = 20. What is compared is the number of episodes until the fleet is good.
"""

import dataclasses

from polyfed.experiment import Evaluation
from polyfed.experiments.fedhpd_cartpole import EXPERIMENT as CARTPOLE
from polyfed.experiments.fedhpd_cartpole import interval

EXPERIMENT = dataclasses.replace(
    CARTPOLE,
    name="fedhpd-sample-cost",
    variants=(interval(1), interval(20)),
    compare=("fedhpd_d1", "fedhpd_d20", "local_only"),
    evaluation=Evaluation(every=40, episodes=2),
)
