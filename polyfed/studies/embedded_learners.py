"""The learners that environment embeddings make personal, as a study of them needs to know them.

PerDQNAvg and PerDDPGAvg (Jin et al. 2022) train and adapt in the same way; here is what differs.

References: jin2022qavg.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import equinox as eqx

from polyfed.agents import DDPG, DQN, Agent, Embedding, ExponentialDecay
from polyfed.checks import in_range, whole_in_range
from polyfed.recipes import Recipe, ddpgavg, dqnavg, perddpgavg, perdqnavg


class PerDQN(eqx.Module):
    """PerDQNAvg against DQNAvg; in an unseen world random actions become fewer.

    >>> PerDQN().names
    ('PerDQNAvg', 'DQNAvg')
    """

    epsilon: float = 0.1  # random actions in an unseen world at first, 0 to 1
    decay: int = 100  # local steps in which that falls to 37 %

    agent: ClassVar[type[Agent]] = DQN
    recipes: ClassVar[tuple[Recipe, Recipe]] = (perdqnavg, dqnavg)  # with embeddings, and without
    names: ClassVar[tuple[str, str]] = ("PerDQNAvg", "DQNAvg")
    shared: ClassVar[tuple[str, ...]] = ("online",)
    rates: ClassVar[tuple[str, ...]] = ("learning_rate",)  # fields of the agent: step sizes of its networks
    notes: ClassVar[tuple[str, ...]] = (
        "The code counts episodes, we count local steps: an episode there is taken for 100 steps. Which ten worlds it "
        "trains in could not be read: here they lie in the middle of ten equal parts of the range. Exploration begins "
        "anew at every merge (there at a share that falls from merge to merge).",
    )

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""
        in_range("learner.epsilon", self.epsilon, 0.0, 1.0)
        whole_in_range("learner.decay", self.decay, 1, 10**9, "local steps")

    def newcomer(self, agent: DQN) -> DQN:
        """The learner in an unseen world."""
        return dataclasses.replace(agent, exploration=ExponentialDecay(self.epsilon, 0.0, self.decay))

    def vectors(self, state: Any) -> Any:
        """Its embedding's vector."""
        return state.embedding.vector


class PerDDPG(eqx.Module):
    """PerDDPGAvg against DDPGAvg; exploration in an unseen world is that of training.

    >>> PerDDPG().shared
    ('actor', 'critic')
    """

    learning_starts: int = 200  # local steps in an unseen world before the first gradient step; actions are uniform

    agent: ClassVar[type[Agent]] = DDPG
    recipes: ClassVar[tuple[Recipe, Recipe]] = (perddpgavg, ddpgavg)
    names: ClassVar[tuple[str, str]] = ("PerDDPGAvg", "DDPGAvg")
    shared: ClassVar[tuple[str, ...]] = ("actor", "critic")
    rates: ClassVar[tuple[str, ...]] = ("actor_learning_rate", "critic_learning_rate")
    notes: ClassVar[tuple[str, ...]] = (
        "Their tasks with continuous actions are half-cheetahs and hoppers. The pendulum, its worlds, the budget, the "
        "networks and the rates are ours. Actor and critic have a vector each, and each arm treats both alike.",
    )

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""
        whole_in_range("learner.learning_starts", self.learning_starts, 1, 2**31 - 1, "local steps")

    def newcomer(self, agent: DDPG) -> DDPG:
        """The learner in an unseen world."""
        return dataclasses.replace(agent, learning_starts=self.learning_starts)

    def vectors(self, state: Any) -> Any:
        """Its embeddings' vectors, the actor's and the critic's."""
        own = state.learner.embedding
        return own.actor.vector, own.critic.vector


EmbeddedLearner = PerDQN | PerDDPG


def stepless(learner: EmbeddedLearner, agent: Any) -> Any:
    """The agent with step sizes of 0, for all alike, where clients may have had their own.

    >>> stepless(PerDQN(), DQN(learning_rate=(0.1, 0.2))).learning_rate
    0.0
    """
    still = dataclasses.replace(agent, **dict.fromkeys(learner.rates, 0.0))
    if still.embedding is None:
        return still
    return dataclasses.replace(still, embedding=Embedding(still.embedding.size, 0.0))
