"""Four hoppers on ground of other grip, from half to twice the usual: SAC and FedAvg, judged on three that nobody knew.

All numbers are ours, those of the learner as in `cheetah-bodies`. Needs `polyfed[mujoco]`. 200 rounds are 20,000 steps
per client, far from the end of learning.
"""

import dataclasses

from polyfed.environments import Explicit, Hopper
from polyfed.experiments.cheetah_bodies import EXPERIMENT as CHEETAHS

EXPERIMENT = dataclasses.replace(
    CHEETAHS,
    name="hopper-friction",
    environment=Hopper(),
    variation=Explicit({"friction": (0.5, 0.8, 1.25, 2.0)}),
    evaluation=dataclasses.replace(
        CHEETAHS.evaluation, held_out=Explicit({"friction": (0.35, 1.0, 1.6)}), num_held_out=3
    ),
)
