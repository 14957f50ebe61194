"""Ten cart-pole agents of different networks: does it matter how their predictions become one consensus?

The fleet, worlds and public states of `fedhpd-cartpole`. The published consensus is the mean of the action
probabilities (`fedhpd`); beside it stand their median, their mean without the lowest and the highest client, and the
normalised geometric mean of the policies, which are ours. Nobody here is faulty: the robust ones can only cost.
"""

import dataclasses

from polyfed.aggregation import Consensus
from polyfed.experiment import Evaluation, Variant
from polyfed.experiments.fedhpd_cartpole import EXPERIMENT as CARTPOLE

EXPERIMENT = dataclasses.replace(
    CARTPOLE,
    name="fedhpd-aggregation",
    variants=(
        Variant("fedhpd_median", Consensus("median")),
        Variant("fedhpd_trimmed_mean", Consensus("trimmed_mean")),
        Variant("fedhpd_log_mean", Consensus("log_mean")),
    ),
    compare=("fedhpd_median", "fedhpd_trimmed_mean", "fedhpd_log_mean", "local_only"),
    evaluation=Evaluation(every=100, episodes=2),
)
