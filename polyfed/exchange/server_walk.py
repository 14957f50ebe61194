"""What clients send where the server walks through a world of its own: what they would do where it stands.

References: jiang2025fedhpd.
"""

from __future__ import annotations

from typing import Any

from polyfed.agents.agent import Agent
from polyfed.agents.distillation import Distillation
from polyfed.agents.walked import Walked
from polyfed.environments import Box, Environment, World
from polyfed.environments.state_checks import box_of
from polyfed.exchange.payload import PayloadKind


class ServerStates(PayloadKind):
    """Every client sends what it would do where the server stands, and moves towards what all would do there.

    The public states are those that the server meets, one per round: DPA-FedRL's (Jiang et al. 2025), whose agents
    minimise `sum_a (p_consensus(a) - p(a))^2` there by one step of their own optimizer.

    >>> ServerStates().distillation.direction
    'squared'
    """

    distillation: Distillation = Distillation(
        direction="squared", payload="probabilities", refresh="event", chunks=1, repetitions=1
    )  # how clients move towards the consensus: on one state

    @property
    def global_policy(self) -> bool:
        """A consensus on one state is no policy."""
        return False

    @property
    def predictive(self) -> bool:
        """Nothing else."""
        return True

    @property
    def walks(self) -> bool:
        """It does."""
        return True

    def check(self, world: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the server cannot walk in such a world."""
        given = self.distillation
        given.check()
        if not isinstance(world, Environment):
            raise ValueError(
                f"ServerStates are met by acting, but nobody acts in {type(world).__name__}: let clients send "
                "Predictions on states of a file."
            )
        box_of(world)
        if given.chunks != 1 or given.refresh != "event" or given.form != "steps":
            raise ValueError(
                f"ServerStates are one state per round, but distillation has chunks = {given.chunks}, refresh = "
                f'{given.refresh!r} and form = {given.form!r}: use chunks=1, refresh="event" and form="steps".'
            )
        if isinstance(world.action_space, Box) and (given.direction == "squared" or given.payload != "own"):
            raise ValueError(
                f"Actions of {type(world).__name__} are numbers, of which policies are normal distributions without a "
                'probability for each: use Distillation(direction="forward", refresh="event", chunks=1, repetitions=1).'
            )

    def of(self, agent: Agent, public: Any) -> Agent:
        """The learner, which distils where the server stood."""
        del public
        return Walked(agent, self.distillation)
