"""Any environment of Gymnasium as a world of clients: stepped on the host, while acting and learning stay compiled.

A state is the seed of an episode and its actions so far, so a step is a pure function of it; the environment itself
waits on the host, found by a digest of these (`live_worlds`). One call of the host steps all copies of a client's
world, and starts the next episode where one ends.

References: towers2024gymnasium.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from polyfed.checks import whole_in_range
from polyfed.environments.environment import Environment, Params, Step
from polyfed.environments.outside import outside
from polyfed.environments.spaces import Space
from polyfed.environments.world import Act, Film

NEVER = jnp.uint32(0xFFFFFFFF)


class GymnasiumParams(eqx.Module):
    """A client's quantities, in the order of `Gymnasium.varied`; there may be none.

    >>> GymnasiumParams(jnp.zeros((3, 2))).values.shape  # three clients that differ in two
    (3, 2)
    """

    values: Float[Array, "*shape Q"]


class GymnasiumState(eqx.Module):
    """An episode so far: what it began with and what was done, from which it can be played again.

    >>> GymnasiumState.begun(jnp.zeros(0), jnp.uint32(7), (10, 1)).actions.shape
    (10, 1)
    """

    values: Float[Array, " Q"]  # quantities of the world that it is in, whatever its client's are by now
    seed: UInt32[Array, ""]  # of the episode's reset
    trace: UInt32[Array, " 2"]  # digest of the actions so far; all ones when it is over
    actions: Float[Array, "T A"]
    time: Int[Array, ""]  # how many of them there were

    @classmethod
    def begun(cls, values: Array, seed: Array, form: tuple[int, int]) -> GymnasiumState:
        """Before the first action."""
        return cls(values, seed, jnp.zeros(2, jnp.uint32), jnp.zeros(form, jnp.float32), jnp.zeros((), jnp.int32))


class Gymnasium(Environment[GymnasiumState]):
    """An environment by its id, whatever it is made of, as the world of every client.

    Quantities have names (`polyfed env check ID` tells which) or are paths of attributes (`attributes.read`), which
    `varied` then lists. What has its nominal value is left untouched, so the nominal world is Gymnasium's to the last
    bit. Observations are flattened, several choices become one, an `action_mask` is heeded, see `host_spaces`. A world
    that raises, or gives what is not finite, is out: its client is absent from then on, and named.

    Where a client's quantities change, an episode ends in the world in which it began, and the next one is in the new.
    The environment must give equal episodes for equal seeds, or a run that is resumed goes on with another.

    >>> world = Gymnasium("CartPole-v1")
    >>> world.action_space, world.max_steps, world.quantities()["half_length"]["default"]
    (Discrete(n=2), 500, 0.5)
    """

    id: str = eqx.field(default="LunarLander-v3", static=True)  # as registered; module:Id imports code, see modules
    arguments: tuple[str, ...] = eqx.field(default=(), static=True)  # of its constructor, as name=value
    wrappers: tuple[str, ...] = eqx.field(default=(), static=True)  # of gymnasium.wrappers, as Name(argument=value)
    varied: tuple[str, ...] = eqx.field(default=(), static=True)  # paths of attributes that may differ, beside names
    time_limit: int = eqx.field(default=0, static=True)  # steps until truncation; 0: as registered
    workers: int = eqx.field(default=0, static=True)  # processes that step; 0: this one does
    patience: float = eqx.field(default=60.0, static=True)  # s that a process may take for one call
    modules: bool = eqx.field(default=False, static=True)  # whether the id may import code
    masks: bool = eqx.field(default=False, static=True)  # show info["action_mask"], or action_masks(), and heed it

    @property
    def max_steps(self) -> int:
        """Steps until truncation."""
        return self._facts.max_steps

    @property
    def observation_space(self) -> Space:
        """What it shows, flattened, with the bounds that Gymnasium declares."""
        return self._facts.seen.space

    @property
    def action_space(self) -> Space:
        """What it takes."""
        return self._facts.taken.space

    @property
    def _recipe(self) -> Any:
        return _recipe(self)

    @property
    def _facts(self) -> Any:
        from polyfed.environments.host_recipe import facts

        return facts(self._recipe)

    def allowed(self, observation: Float[Array, "*batch D"]) -> Bool[Array, "*batch A"] | None:
        """What the `action_mask` among its observations says; None where it has none."""
        mask = self._facts.seen.mask
        return None if mask is None else observation[..., slice(*mask)] > 0

    def quantities(self) -> dict[str, dict[str, Any]]:
        """Unit, range and nominal value of every quantity, those with a name first."""
        return self._facts.quantities

    def made(self, values: Mapping[str, Array], shape: tuple[int, ...] = ()) -> GymnasiumParams:
        """The params that hold these values."""
        columns = [np.broadcast_to(np.asarray(values[name], np.float32), shape) for name in self._recipe.varied]
        together = np.stack(columns, axis=-1) if columns else np.zeros((*shape, 0), np.float32)
        return GymnasiumParams(jnp.asarray(together))

    def nominal(self) -> GymnasiumParams:
        """The environment as it is registered."""
        return self.made({name: known["default"] for name, known in self.quantities().items()})

    def check(self) -> None:
        """Raise in one sentence if it cannot be made, or a field is out of range."""
        whole_in_range("environment.time_limit", self.time_limit, 0, 10**9, "steps")
        whole_in_range("environment.workers", self.workers, 0, 1024)
        if not self.patience > 0:
            raise ValueError(
                f"environment.patience = {self.patience:g} s leaves a process no time to answer: give more than 0."
            )
        super().check()

    def check_worlds(self, worlds: Mapping[str, np.ndarray]) -> None:
        """Raise `ValueError` in one sentence if one of these cannot be made, or shows or takes something else."""
        from polyfed.environments.host_recipe import check_made

        if not worlds:
            return
        values: dict[str, Any] = {name: known["default"] for name, known in self.quantities().items()}
        values.update(worlds)
        rows = np.asarray(self.made(values, next(iter(worlds.values())).shape).values)
        for client, row in enumerate(rows.tolist()):
            try:
                check_made(self._recipe, tuple(row))
            except ValueError as error:
                raise ValueError(f"The world of client {client} cannot be made: {str(error).rstrip('.')}.") from error

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[GymnasiumState, Array]:
        """A fresh episode, by `reset(seed=...)` with a seed that the key gives."""
        state = GymnasiumState.begun(params.values, _seed(key), self._form)
        rows = jnp.concatenate([_words(params.values), state.seed[None]])
        answer = _calls(self)[0](rows[None])[0]
        return state, jax.lax.bitcast_convert_type(answer, jnp.float32)

    def step(
        self, key: PRNGKeyArray, state: GymnasiumState, action: Array, params: Params
    ) -> tuple[GymnasiumState, Step]:
        """One step; after the end of an episode nothing happens any more."""
        del key
        given, trace, _ = self._advance(state, action, params, NEVER)
        return self._after(state, action, trace), given

    def draw(self, key: PRNGKeyArray, params: Params, num_steps: int) -> Array:
        """Seeds `[num_steps, E]` of the episodes that begin where one ends."""
        num_envs = params.values.shape[0]
        return jax.vmap(jax.vmap(_seed))(jax.random.split(key, (num_steps, num_envs)))

    def go_on(
        self, keys: PRNGKeyArray, state: GymnasiumState, action: Array, params: Params, drawn: Array
    ) -> tuple[Step, GymnasiumState, Array]:
        """A step in every environment, and the next episode where one ends, in one call of the host."""
        del keys

        def one(state: GymnasiumState, action: Array, params: Params, seed: Array) -> Any:
            given, trace, first = self._advance(state, action, params, seed)
            over, after = given.terminated | given.truncated, self._after(state, action, trace)
            choose = lambda new, old: jnp.where(over, new, old)  # noqa: E731
            state = GymnasiumState(
                values=choose(params.values, after.values),
                seed=choose(seed, after.seed),
                trace=choose(jnp.zeros(2, jnp.uint32), after.trace),
                actions=after.actions,  # those of the last episode are never looked at
                time=choose(jnp.zeros((), jnp.int32), after.time),
            )
            return given, state, choose(first, given.observation)

        return jax.vmap(one)(state, action, params, drawn)

    def _advance(self, state: GymnasiumState, action: Array, params: Params, seed: Array) -> tuple[Step, Array, Array]:
        """What a step gave, the new trace, and the first observation of the episode that began with `seed`."""
        size = self._facts.seen.space.size
        numbers = _words(jnp.reshape(action, -1).astype(jnp.float32))
        before, following = [_words(state.values), state.seed[None], state.trace], [_words(params.values), seed[None]]
        row = jnp.concatenate([*before, numbers, *following, state.time[None].astype(jnp.uint32)])
        answer = _calls(self)[1](row[None], state.actions[None])[0]
        real = jax.lax.bitcast_convert_type(answer, jnp.float32)
        given = Step(real[:size], real[size], answer[size + 1] > 0, answer[size + 2] > 0)
        return given, answer[size + 3 : size + 5], real[size + 5 :]

    def _after(self, state: GymnasiumState, action: Array, trace: Array) -> GymnasiumState:
        done = jnp.reshape(action, -1).astype(jnp.float32)
        return GymnasiumState(state.values, state.seed, trace, state.actions.at[state.time].set(done), state.time + 1)

    @property
    def _form(self) -> tuple[int, int]:
        return self.max_steps, self._facts.taken.size

    def film(self, act: Act, params: Params, key: PRNGKeyArray, every: int = 1) -> Film:
        """The greedy episode that begins with this key, lived in an environment that draws itself."""
        from polyfed.environments.host_film import film_live

        k_reset, _ = jax.random.split(key)  # as in `trace_episode`
        return film_live(self._recipe, params.values, int(_seed(k_reset)), act, every)

    def attendance(self, params: Params, lived: Any) -> Float[Array, ""]:
        """0 for a client all of whose worlds failed, else 1; what it `lived` through comes first."""
        after = sum(jnp.sum(jnp.nan_to_num(x)) for x in jax.tree.leaves(lived))
        numbers = _words(params.values)
        there = _calls(self)[2](numbers, jnp.broadcast_to(after, (len(numbers), 1)))
        return jnp.max(there)

    def told(self, params: Params) -> tuple[str, ...]:
        """Which clients are out, and why."""
        from polyfed.environments.host_recipe import differing_values

        values = np.asarray(params.values, np.float32)
        sentences = []
        for world, reason in list(_worlds(self).failures.items()):
            row = np.frombuffer(world, np.float32)
            where = np.argwhere(np.isclose(values, row, rtol=1e-6, atol=0).all(-1).any(-1))  # on a course: to rounding
            who = ", ".join(dict.fromkeys(f"client-{client}" for _, client in where)) or "a world that is judged"
            differs = differing_values(self._recipe, row)
            own = f" ({', '.join(f'{n}={x:g}' for n, x in differs.items())})" if differs else ""
            sentences.append(f"{who} is absent from now on: {self.id}{own} failed: {reason}.")
        return tuple(sentences)


@functools.lru_cache(maxsize=64)
def _recipe(environment: Gymnasium) -> Any:
    """How it is made, with the names of all its quantities."""
    from polyfed.environments.host_recipe import Recipe, known_quantities

    given = environment.arguments, environment.wrappers, environment.varied
    recipe = Recipe(environment.id, *given, environment.time_limit, environment.modules, environment.masks)
    return dataclasses.replace(recipe, varied=tuple(known_quantities(recipe)))


def _words(numbers: Array) -> UInt32[Array, ...]:
    return jax.lax.bitcast_convert_type(numbers.astype(jnp.float32), jnp.uint32)


def _seed(key: PRNGKeyArray) -> UInt32[Array, ""]:
    """A seed of 31 bits: more than that not every environment takes."""
    return jax.random.bits(key, (), jnp.uint32) >> 1


@functools.lru_cache(maxsize=64)
def _worlds(environment: Gymnasium) -> Any:
    """The live environments of a fleet, of all runs in this process."""
    from polyfed.environments.live_worlds import LiveWorlds
    from polyfed.environments.worker_worlds import WorkerWorlds

    if environment.workers:
        callers = jax.local_device_count()
        return WorkerWorlds(environment._recipe, environment.workers, environment.patience, callers)
    return LiveWorlds(environment._recipe)


@functools.lru_cache(maxsize=64)
def _calls(environment: Gymnasium) -> tuple[Any, Any, Any]:
    """`begin`, `advance` and `there` of the live environments, to be called from compiled programs."""
    worlds = _worlds(environment)
    size = worlds.size
    there = lambda rows, after: worlds.there(np.asarray(rows))  # noqa: E731  an order, no number, comes with it
    begin, advance = outside(worlds.begin, size, np.uint32), outside(worlds.advance, 2 * size + 5, np.uint32)
    return begin, advance, outside(there, 1)
