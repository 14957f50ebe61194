"""Whether FedRDQN's expectile network finds the least next value of a state, over its order and what the replay covers.

Settings are those of `fedrdqn-cartpole` (after Hwang and Hong 2025, `hwang2025fedrq`) with half its budget; the audit
is ours.
"""

import dataclasses

from polyfed.experiments.fedrdqn_cartpole import EXPERIMENT
from polyfed.studies.expectile_audit import ExpectileAudit

STUDY = ExpectileAudit(
    name="expectile-audit",
    experiment=dataclasses.replace(EXPERIMENT, name="expectile-audit", num_rounds=200, compare=()),
)
