"""Agents made elsewhere beside compiled groups: the same round, with Python between its compiled halves.

Compiled groups run on the devices while the guests learn on the host. A guest that fails is absent, weight 0, in the
exchange in which it does; why is kept as a sentence, and the round goes on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents.divergence import as_kind
from polyfed.agents.foreign import Foreign, guarded
from polyfed.environments import Discrete
from polyfed.exchange import Predictions
from polyfed.experiment import Experiment

FAILED = object()  # what a guest that raised has answered


@dataclasses.dataclass
class Guest:
    """An agent made elsewhere, as it takes part in the federation of one seed."""

    seed: int  # place of the seed among all
    client: int
    local_steps: int
    agent: Any  # see `ForeignAgent`
    turn: int = 0  # chunks of public states done


class Guests:
    """All agents made elsewhere, of all seeds.

    Attributes:
      clients: Which clients they are.
      longest_block: Rounds after which the federation should be kept at the latest.
      complaints: A sentence for each failure that nobody has been told of yet.
    """

    def __init__(self, experiment: Experiment, seeds: tuple[int, ...], params: Any, public: Callable[[], Any]):
        """`params` leaves are `[S or 1, C, E]`; `public` gives the public states."""
        self.experiment, self.seeds, self._params, self._public = experiment, seeds, params, public
        self.groups = [(first, group) for first, group in experiment.placed_groups() if _foreign(group)]
        self.clients = [first + i for first, group in self.groups for i in range(group.num_clients)]
        self.longest_block = experiment.num_rounds
        self.guests: list[Guest] = []
        self.complaints: list[str] = []

    def ready(self) -> None:
        """Make the agents where there are none yet."""
        if not self.guests:
            self.begin()

    def begin(self) -> None:
        """Make every agent anew."""
        self.guests = [
            Guest(s, first + i, group.local_steps or 0, self._made(group.agent, s, first + i))
            for s in range(len(self.seeds))
            for first, group in self.groups
            for i in range(group.num_clients)
        ]

    def _made(self, form: Foreign, nth_seed: int, client: int) -> Any:
        params = jax.tree.map(lambda x: x[nth_seed % x.shape[0], client, 0], self._params)
        seed = int(np.random.SeedSequence([self.seeds[nth_seed], client]).generate_state(1)[0] >> 1)
        environment: Any = self.experiment.environment
        return form.make(environment, params, seed)

    def first_messages(self) -> Any:
        """`[S, ...]`: what the first guest of each seed would send; it fixes the form of the broadcast."""
        firsts = [next(g for g in self.guests if g.seed == s) for s in range(len(self.seeds))]
        messages = [self._message(guest) for guest in firsts]
        if any(message is FAILED for message in messages):
            raise ValueError(f"The federation cannot begin: {' '.join(self.complaints)} Mend that agent.")
        return jax.tree.map(lambda *x: jnp.stack(x), *messages)

    def exchange(self, broadcast: Any, round_: int, nth: int) -> tuple[Any, np.ndarray, dict[str, np.ndarray]]:
        """The guests' half of an exchange; those that have not joined yet are left alone.

        Args:
          broadcast: Leaves `[S, ...]`, in NumPy; nothing has been sent before the first exchange of round 1.
          round_: The round, from 1.
          nth: Which of its exchanges, from 0; guests learn at home before the first.

        Returns:
          `(payload [S, guests, ...], came [S, guests], metrics [S, guests])`.
        """
        newborn, learn = round_ == 1 and nth == 0, nth == 0
        shape = len(self.seeds), len(self.clients)
        came, found = np.zeros(shape, bool), dict[str, np.ndarray]()
        rows = jax.tree.map(lambda x: np.zeros((*shape, *x.shape[1:]), x.dtype), broadcast)
        there = self.experiment.there(np.array([round_]))[0]
        for guest in (guest for guest in self.guests if there[guest.client]):
            place = guest.seed, self.clients.index(guest.client)
            message, metrics = self._round(guest, jax.tree.map(lambda x, s=guest.seed: x[s], broadcast), newborn, learn)
            for name, value in metrics.items():
                found.setdefault(name, np.full(shape, math.nan, np.float32))[place] = value
            if message is not FAILED:
                came[place] = True
                jax.tree.map(lambda row, x, place=place: row.__setitem__(place, x), rows, message)
        return rows, came, found

    def _round(self, guest: Guest, broadcast: Any, newborn: bool, learn: bool) -> tuple[Any, dict[str, float]]:
        payload, metrics = self.experiment.payload, dict[str, float]()
        if isinstance(payload, Predictions) and not newborn and not self._imitated(guest, payload, broadcast):
            return FAILED, metrics
        if learn:
            answer = self._ask(guest, "learn", guest.local_steps)
            if answer is FAILED:
                return FAILED, metrics
            metrics = answer
        return self._message(guest), metrics

    def _imitated(self, guest: Guest, payload: Predictions, consensus: Any) -> bool:
        """Move towards the consensus, as compiled learners do; False where the guest failed."""
        given, states = payload.distillation, np.asarray(self._public())
        chunks = np.split(states, given.chunks)
        if given.refresh == "chunk":
            work = [(chunks[guest.turn % given.chunks], consensus)]
            guest.turn += 1
        else:
            parts = [jax.tree.map(lambda x, i=i: np.split(x, given.chunks)[i], consensus) for i in range(given.chunks)]
            work = list(zip(chunks, parts, strict=True)) * given.repetitions
        arguments = given.steps_per_chunk, float(np.mean(given.strength))
        return all(self._ask(guest, "imitate", seen, target, *arguments) is not FAILED for seen, target in work)

    def _message(self, guest: Guest) -> Any:
        """Its predictions on the public states whose turn it is; `()` where nobody sends any; `FAILED`."""
        payload = self.experiment.payload
        if not isinstance(payload, Predictions):
            return ()
        given, states = payload.distillation, np.asarray(self._public())
        if given.refresh == "chunk":
            states = np.split(states, given.chunks)[guest.turn % given.chunks]
        answer = self._ask(guest, "predict", states)
        if answer is FAILED:
            return FAILED
        return jax.tree.map(np.asarray, as_kind(answer, given.payload, given.boltzmann))

    def _ask(self, guest: Guest, method: str, *arguments: Any) -> Any:
        """The answer, or `FAILED` with a complaint."""
        answer, reason = guarded(guest.agent, method, self.experiment.environment, *arguments)
        if reason is None:
            return answer
        self.complaints.append(f"client-{guest.client} of seed {self.seeds[guest.seed]} is absent: {reason}")
        return FAILED

    def evaluate(self, worlds: tuple[Any, Any], num_episodes: int, round_: int) -> np.ndarray:
        """Mean scores `[S, guests, M]` of every guest's greedy policy after a round; 0 where it failed to act."""
        del round_  # guests are never behind
        scores = np.zeros((len(self.seeds), len(self.clients), jax.tree.leaves(worlds[0])[0].shape[1]))
        for guest in self.guests:
            params = jax.tree.map(lambda x, s=guest.seed: x[s % x.shape[0]], worlds[0])
            act = self._actor(guest)
            score = self.experiment.environment.evaluate(act, params, worlds[1], num_episodes)
            scores[guest.seed, self.clients.index(guest.client)] = np.asarray(score)
        return scores

    def _actor(self, guest: Guest) -> Callable[[Any], Any]:
        """Its greedy policy as a function that a compiled program may call."""
        space = self.experiment.environment.action_space

        def ask(observation: Any) -> np.ndarray:
            answer = self._ask(guest, "act", np.asarray(observation), True)
            if answer is not FAILED:
                return answer
            count = len(observation)
            return (
                np.zeros(count, np.int32) if isinstance(space, Discrete) else np.zeros((count, space.size), np.float32)
            )

        def act(observation: Any) -> Any:
            count = observation.shape[0]
            shape, kind = ((count,), jnp.int32) if isinstance(space, Discrete) else ((count, space.size), jnp.float32)
            return jax.pure_callback(ask, jax.ShapeDtypeStruct(shape, kind), observation)

        return act

    def weights_of(self, nth_seed: int) -> dict[str, dict[str, np.ndarray]]:
        """By client, the weights of those of a seed that save theirs."""
        pairs = zip(self.guests, self.save(), strict=True)
        return {f"client-{guest.client}": arrays for guest, arrays in pairs if guest.seed == nth_seed and arrays}

    def save(self) -> tuple[dict[str, np.ndarray], ...]:
        """The weights of every guest; empty for those that do not save theirs."""
        return tuple(self._weights(guest) for guest in self.guests)

    def _weights(self, guest: Guest) -> dict[str, np.ndarray]:
        answer, reason = guarded(guest.agent, "save", self.experiment.environment)
        return answer if reason is None else {}

    def load(self, weights: tuple[dict[str, Any], ...], num_rounds: int) -> None:
        """Give every guest the weights that it had after `num_rounds`."""
        payload = self.experiment.payload
        given = payload.distillation if isinstance(payload, Predictions) else None
        absorbed = num_rounds * payload.exchanges - 1
        for guest, arrays in zip(self.guests, weights, strict=True):
            guest.turn = absorbed if given is not None and given.refresh == "chunk" and absorbed > 0 else 0
            if arrays:
                self._ask(guest, "load", {name: np.asarray(array) for name, array in arrays.items()})

    def told(self) -> str:
        """Every complaint since the last call, equal ones once with their number."""
        counted = {text: self.complaints.count(text) for text in dict.fromkeys(self.complaints)}
        self.complaints = []
        return " ".join(text if count == 1 else f"{text} ({count} times)" for text, count in counted.items())


def _foreign(group: Any) -> bool:
    return isinstance(group.agent, Foreign)
