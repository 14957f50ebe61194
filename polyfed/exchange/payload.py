"""What clients send: their parameters, or what they would do on states that everybody knows, or nothing.

A payload says how a learner takes part: `of` gives the learner as the round sees it.

References: jiang2025fedhpd.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from polyfed.agents.agent import Agent
from polyfed.agents.distillation import Distillation, Distilled
from polyfed.agents.virtual_agent import VirtualAgentStates
from polyfed.agents.wrapped import Wrapped
from polyfed.environments import World
from polyfed.environments.public_states import FileStates, NeutralStates, UniformStates
from polyfed.types import Payload

AnyPublicStates = UniformStates | NeutralStates | VirtualAgentStates | FileStates


class PayloadKind(eqx.Module):
    """The interface of a payload."""

    @property
    def global_policy(self) -> bool:
        """Whether what is broadcast is a policy that a newcomer could use."""
        return True

    @property
    def predictive(self) -> bool:
        """Whether clients send what they would do, rather than parameters."""
        return False

    @property
    def walks(self) -> bool:
        """Whether the server says where clients predict next."""
        return False

    @property
    def exchanges(self) -> int:
        """Times that messages go up and down in a round."""
        return 1

    def check(self, world: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the world does not fit."""
        del world

    def fingerprint(self) -> str:
        """A digest of what it reads from files; empty where it reads none."""
        return ""

    @abc.abstractmethod
    def of(self, agent: Agent, public: Any) -> Agent:
        """The learner as it takes part: its `share` gives what is sent, its `absorb` takes what came back.

        Args:
          agent: The learner; its numbers may be stacked.
          public: The public states `[M, ...]`, or `()` where there are none, stacked as the numbers are.
        """


class Parameters(PayloadKind):
    """Every client sends parameters, as its learner's `shared` says.

    >>> from polyfed.agents import DQN
    >>> agent = DQN()
    >>> Parameters().of(agent, ()) is agent
    True
    """

    def of(self, agent: Agent, public: Any) -> Agent:
        """The learner itself."""
        del public
        return agent


class Nothing(PayloadKind):
    """Nobody sends anything: clients that are made differently and learn alone.

    >>> from polyfed.agents import DQN
    >>> Nothing().of(DQN(), ()).share(None)
    ()
    """

    @property
    def global_policy(self) -> bool:
        """There is none."""
        return False

    def of(self, agent: Agent, public: Any) -> Agent:
        """The learner, silenced."""
        del public
        return Silent(agent)


class Predictions(PayloadKind):
    """Every client sends what it would do on public states, and moves towards what all would do (Jiang et al. 2025).

    Nobody sees how another is made: neither its parameters nor its architecture or algorithm.

    >>> Predictions(UniformStates(num=100), Distillation(chunks=2)).exchanges
    10
    """

    public: AnyPublicStates = eqx.field(default=UniformStates(), static=True)  # states that everybody knows
    distillation: Distillation = Distillation()  # how clients move towards the consensus

    @property
    def global_policy(self) -> bool:
        """A consensus on public states is no policy."""
        return False

    @property
    def predictive(self) -> bool:
        """Nothing else."""
        return True

    @property
    def exchanges(self) -> int:
        """One, or one for every chunk of public states and repetition."""
        return self.distillation.exchanges

    def check(self, world: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or public states do not fit the world."""
        self.public.check(world)
        self.distillation.check()
        public = self.public
        self.distillation.check_chunks(len(public.states(world)) if isinstance(public, FileStates) else public.num)

    def fingerprint(self) -> str:
        """A digest of the public states that are read from a file."""
        return self.public.fingerprint()

    def of(self, agent: Agent, public: Float[Array, "... M D"]) -> Agent:
        """The learner, which distils."""
        return Distilled(agent, self.distillation, public)


class Silent(Wrapped):
    """A learner that sends nothing and takes nothing in.

    >>> from polyfed.agents import DQN
    >>> Silent(DQN()).absorb("state", ())
    'state'
    """

    def share(self, state: Any) -> Payload:
        """Nothing."""
        del state
        return ()

    def absorb(self, state: Any, broadcast: Payload) -> Any:
        """The state as it is."""
        del broadcast
        return state
