"""One client of an experiment by itself: the engine's own program, with a plan that holds this client alone."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from polyfed.exchange.site_part import SitePart
from polyfed.exchange.wire import Manifest
from polyfed.experiment import Experiment
from polyfed.record import digest, to_data
from polyfed.simulation.engine import Federation, Homes, evaluate_own, init_clients, message_key, run_clients
from polyfed.simulation.plan import plan
from polyfed.simulation.round import Client, Server
from polyfed.simulation.simulate import Simulation
from polyfed.types import Payload


def identity(experiment: Experiment, seed: int) -> str:
    """The digest by which a server and its sites know that they mean one experiment."""
    return digest([to_data(experiment), [seed]])


class AtHome(eqx.Module):
    """What stays at a site between rounds."""

    client: Client  # leaves [1, ...]
    transforms: tuple[Any, ...]  # memory of those that act here


class Member:
    """A client: what it is before the first round, a round of it, and its policy's scores.

    Its keys, worlds and numbers are those that it has in `Simulation`.

    Args:
      experiment: The whole one.
      seed: Of the run.
      client: Which of its clients, from 0.

    >>> from polyfed.experiments import load
    >>> member = Member(load("cartpole-poles"), seed=0, client=2)
    >>> member.payload_form.arrays[0].name
    'layers.0.weight'
    """

    def __init__(self, experiment: Experiment, seed: int, client: int):
        self.experiment, self.client = experiment, client
        self.simulation = Simulation(experiment, (seed,), jax.devices()[:1])
        firsts = [first for first, _ in experiment.placed_groups()]
        self.group = max(nth for nth, first in enumerate(firsts) if first <= client)
        self._nth = client - firsts[self.group]
        own = [(client, 1, experiment.groups[self.group].local_steps or 0)]
        self.plan = plan(
            1,
            experiment.num_agents,
            own,
            jax.devices()[:1],
            common_start=experiment.common_start,
            exchanges=experiment.payload.exchanges,
        )

    @functools.cached_property
    def homes(self) -> Homes:
        """What stays at the clients of the experiment, with the parts of this one alone."""
        whole = self.simulation.homes
        parts = whole.parts[self.group]
        agent = jax.tree.map(lambda x: x[self._nth : self._nth + 1], parts.agent)
        return dataclasses.replace(whole, parts=(dataclasses.replace(parts, agent=agent),))

    @property
    def first_round(self) -> int:
        """In which it takes part."""
        return int(self.experiment.first_rounds[self.client])

    def begin(self) -> AtHome:
        """It before the first round."""
        return AtHome(init_clients(self.homes, self.plan)[0][0], self.site_part.begin())

    def round(
        self, home: AtHome, broadcast: Payload, when: tuple[int, int], newcomer: bool = False
    ) -> tuple[AtHome, list[np.ndarray] | None, dict[str, np.ndarray]]:
        """Its half of an exchange.

        Args:
          home: It before.
          broadcast: What the server sent to it.
          when: `(round, exchange)`, from 1 and from 0.
          newcomer: Whether it has lost what it learned, and begins with what the server sent.

        Returns:
          `(home, arrays, metrics)`; the arrays go over the wire, in the order of `sent_form`, and are None where its
          world failed, or a transform left it out. Where it adds noise of its own, its figures tell nothing: they
          would show what the noise hides.
        """
        round_, nth = when
        homes = self.homes
        if newcomer:
            joins = jnp.ones(self.experiment.num_clients, jnp.int32).at[self.client].set(round_)
            homes = dataclasses.replace(homes, joins=joins)
        clients, update, metrics = self._run(homes, home.client, broadcast, (round_ - 1, nth))
        figures = {name: np.asarray(value)[0, 0] for name, value in metrics.items()}
        if self.site_part.secret:
            figures = {name: _withheld(value) for name, value in figures.items()}
        if not np.asarray(update.weight)[0, 0] > 0:
            return AtHome(clients[0], home.transforms), None, figures
        payload = jax.tree.map(lambda x: np.asarray(x)[0, 0], update.payload)
        key = message_key(self.homes.keys[0], jnp.asarray(round_), self.plan, jnp.asarray(nth))
        arrays, came, transforms = self.site_part.send(home.transforms, payload, broadcast, key, self.client)
        return AtHome(clients[0], transforms), arrays if came else None, figures

    def _run(self, homes: Homes, client: Client, broadcast: Any, when: tuple[Any, Any]) -> Any:
        one = jax.tree.map(lambda x: jnp.asarray(x)[None], broadcast)
        federation = Federation((client,), Server(one, (), (), ()), jnp.asarray(when[0], jnp.int32))
        return run_clients(federation, homes, self.plan, False, jnp.asarray(when[1], jnp.int32))

    def score(self, home: AtHome, round_: int) -> np.ndarray:
        """Mean scores `[M]` of its own policy in all worlds of the experiment, as they are after a round."""
        worlds, episodes = self.simulation.worlds_after(round_), self.experiment.evaluation.episodes
        return np.asarray(evaluate_own((home.client,), self.homes, self.plan, worlds, episodes))[0, 0]

    @functools.cached_property
    def _forms(self) -> tuple[Any, dict[str, Any]]:
        """The forms of its payload and its metrics; nothing is computed."""

        def one(homes: Homes) -> Any:
            clients, payload = init_clients(homes, self.plan)
            broadcast = jax.tree.map(lambda x: x[0], payload)
            return self._run(homes, clients[0], broadcast, (0, 0))[1:]

        update, metrics = jax.eval_shape(one, self.homes)
        form = lambda x: np.zeros(x.shape[2:], x.dtype)  # noqa: E731
        return jax.tree.map(form, update.payload), {name: form(x) for name, x in metrics.items()}

    @functools.cached_property
    def form(self) -> Payload:
        """A payload of zeros."""
        return self._forms[0]

    @functools.cached_property
    def payload_form(self) -> Manifest:
        """What comes to it."""
        return Manifest.of(self._forms[0])

    @functools.cached_property
    def site_part(self) -> SitePart:
        """What happens to its messages before they leave."""
        return SitePart(self.experiment.transforms, self.form)

    @property
    def sent_form(self) -> Manifest:
        """What its messages hold."""
        return self.site_part.manifest

    @property
    def last_exchange(self) -> int:
        """The last that the experiment and its budget of privacy allow."""
        return self.experiment.last_round * self.plan.exchanges

    @functools.cached_property
    def metrics_form(self) -> Manifest:
        """What its figures must hold."""
        return Manifest.of(self._forms[1])


def _withheld(value: np.ndarray) -> np.ndarray:
    """A figure of the same kind that tells nothing."""
    return np.full_like(value, np.nan if value.dtype.kind == "f" else 0)
