"""WindyCliffs: a walk beside a cliff, in winds that differ between agents (Jin et al. 2022, released code).

A grid of 4 x 4, `discount = 0.95`, state `y * X + x`, start at 0 in the bottom left corner. Of the bottom row, states
`1 .. X - 2` are the cliff (reward -100) and `X - 1` is the goal (+100), everything else gives -1; the reward is that of
the current state, whatever is done there. Cliff and goal send back to the start. Elsewhere "down" always succeeds, and
the other actions succeed with probability `1 - wind / 3` and are blown down otherwise; walls hold.

References: jin2022qavg.
"""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.checks import whole_in_range
from polyfed.environments.environment import Environment, Quantity, Step, quantity
from polyfed.environments.random_mdps import check_tabular
from polyfed.environments.spaces import Box, Discrete
from polyfed.environments.tabular import (
    TabularMDP,
    TabularMDPs,
    TabularParams,
    TabularState,
    draw_index,
    stacked_params,
)
from polyfed.environments.world import World

WIDTH, HEIGHT = 4, 4
DISCOUNT = 0.95
MOVES = ((0, 1), (0, -1), (-1, 0), (1, 0))  # up, down, left, right
DOWN = 1


def grid_moves(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Where each action leads if nothing blows: the next state, int `[S, A]`; cliff and goal send back to the start.

    >>> grid_moves()[0].tolist(), grid_moves()[3].tolist()  # from the start: up, down, left, right; from the goal
    ([4, 0, 0, 1], [0, 0, 0, 0])
    """
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    after = [
        np.clip(y + dy, 0, height - 1) * width + np.clip(x + dx, 0, width - 1)  # walls hold
        for dx, dy in MOVES
    ]
    moves = np.stack([one.ravel() for one in after], axis=-1)
    moves[1:width] = 0
    return moves


def grid_rewards(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """-100 on the cliff, +100 at the goal, else -1, `[S, A]`.

    >>> grid_rewards()[:5, 0].tolist()
    [-1.0, -100.0, -100.0, 100.0, -1.0]
    """
    rewards = np.full((width * height, len(MOVES)), -1.0)
    rewards[1 : width - 1], rewards[width - 1] = -100.0, 100.0
    return rewards


def windy_cliffs(
    wind: Float[Array, "*batch"] | float, *, shape: tuple[int, int] = (WIDTH, HEIGHT), dtype: Any = jnp.float32
) -> TabularMDPs:
    """The walk in each of the given winds, 0 to 1.

    Returns:
      Transitions `[*batch, S, A, S]`, rewards `[S, A]`.

    >>> mdps = windy_cliffs(jnp.array([0.0, 1.0]))
    >>> mdps.transitions.shape
    (2, 16, 4, 16)
    >>> mdps.transitions[1, 5, 0].round(4)[jnp.array([1, 9])].tolist()  # up: blown down, or not
    [0.33329999446868896, 0.666700005531311]
    """
    moves = grid_moves(*shape)
    sure = jax.nn.one_hot(moves, len(moves), dtype=dtype)  # [S, A, S]
    down = jnp.broadcast_to(sure[:, DOWN : DOWN + 1], sure.shape)
    blown = (jnp.asarray(wind, dtype) / 3)[..., None, None, None]
    start = jax.nn.one_hot(0, len(moves), dtype=dtype)
    rewards = jnp.asarray(grid_rewards(*shape), dtype)
    return TabularMDPs((1 - blown) * sure + blown * down, rewards, start, DISCOUNT)


def windy_cliff_sets(
    key: PRNGKeyArray, num_instances: int, num_envs: int = 5, *, dtype: Any = jnp.float32
) -> TabularMDPs:
    """Instances for training: winds `U(0, 1)`, transitions `[N, K, S, A, S]`.

    >>> windy_cliff_sets(jax.random.key(0), num_instances=2).transitions.shape
    (2, 5, 16, 4, 16)
    """
    return windy_cliffs(jax.random.uniform(key, (num_instances, num_envs), jnp.float32), dtype=dtype)


def windy_cliff_tests(num_envs: int = 10, *, dtype: Any = jnp.float32) -> TabularMDPs:
    """The environments for testing: winds evenly from 0 to 1, transitions `[1, K, S, A, S]`, common to all instances.

    >>> windy_cliff_tests().transitions.shape
    (1, 10, 16, 4, 16)
    """
    return windy_cliffs(jnp.linspace(0, 1, num_envs)[None], dtype=dtype)


def windy_cliffs_around(
    key: PRNGKeyArray, num_instances: int, kappa: Any, num_envs: int = 5, *, dtype: Any = jnp.float32
) -> TabularMDPs:
    """The kappa series: environment 0 is the centre (wind 0.5), the others `(1 - kappa) * P_0 + kappa * U_k`.

    `U_k` has a wind `U(0, 1)`; the released code draws it without a seed, here the key gives it, the same for every
    `kappa`.

    >>> float(windy_cliffs_around(jax.random.key(0), 1, kappa=0.0).transitions.std(axis=1).max())
    0.0
    """
    centre = windy_cliffs(jnp.full((num_instances, 1), 0.5), dtype=dtype)
    others = windy_cliff_sets(key, num_instances, num_envs - 1, dtype=dtype).transitions
    mixed = (1 - kappa) * centre.transitions + kappa * others
    moves = jnp.concatenate([centre.transitions, mixed], axis=1).astype(dtype)
    return eqx.tree_at(lambda m: m.transitions, centre, moves)


class WindyCliffs(eqx.Module):
    """Every client walks in a wind of its own, `U(0, 1)`, in place of a variation of physical quantities.

    It gives the transitions of a `TabularMDP` with 16 states and 4 actions. `WindyCliff` is the same walk as a family
    of its own, whose wind is a quantity.

    >>> world = TabularMDP(num_states=16, num_actions=4)
    >>> WindyCliffs(seed=1).worlds(world, num_clients=3)["wind"].shape
    (3,)
    """

    seed: int = eqx.field(default=0, static=True)  # of the winds
    first: int = eqx.field(default=0, static=True)  # number of the first client's wind

    def worlds(self, environment: World, num_clients: int) -> dict[str, np.ndarray]:
        """Each client's wind, float64 `[C]`."""
        self.check(environment, num_clients)
        return {"wind": np.random.default_rng(self.seed).uniform(size=self.first + num_clients)[self.first :]}

    def mdps(self, environment: World, num_clients: int) -> TabularMDPs:
        """The instance, transitions `[C, S, A, S]`."""
        return windy_cliffs(jnp.asarray(self.worlds(environment, num_clients)["wind"], jnp.float32))

    def params(self, environment: World, num_clients: int) -> TabularParams:
        """Transitions, rewards and first states of all clients, leaves float32 `[C, ...]`."""
        return stacked_params(self.mdps(environment, num_clients), num_clients)

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be simulated."""
        check_tabular(self, environment)
        whole_in_range("number of worlds", num_clients, 1, 10**6)
        whole_in_range("variation.seed", self.seed, 0, 2**32 - 1)
        whole_in_range("variation.first", self.first, 0, 10**6)
        assert isinstance(environment, TabularMDP)
        if (environment.num_states, environment.num_actions) != (WIDTH * HEIGHT, len(MOVES)):
            raise ValueError(
                f"WindyCliffs has {WIDTH * HEIGHT} states and {len(MOVES)} actions, but the environment has "
                f"{environment.num_states} and {environment.num_actions}: set environment.num_states to "
                f"{WIDTH * HEIGHT} and environment.num_actions to {len(MOVES)}."
            )


class WindyCliffParams(eqx.Module):
    """What may differ between clients.

    >>> WindyCliffParams(wind=0.25).wind
    0.25
    """

    wind: Quantity = quantity(0.5, "1", low=0.0, high=1.0)  # three times the chance of being blown down


class WindyCliff(Environment[TabularState]):
    """The walk as a family: up (0), down (1), left (2), right (3); what is seen is a vector with a one at the state.

    Nothing ends but the clock; cliff and goal send back to the start.

    >>> environment = WindyCliff()
    >>> state, observation = environment.reset(jax.random.key(0), environment.nominal())
    >>> state, step = environment.step(jax.random.key(1), state, jnp.int32(3), environment.nominal())
    >>> int(state.state) in (0, 1), float(step.reward)
    (True, -1.0)
    """

    params_class: ClassVar[type] = WindyCliffParams

    max_steps: int = eqx.field(default=100, static=True)  # steps until truncation

    @property
    def observation_space(self) -> Box:
        """A one at the place of the state."""
        return Box(low=(0.0,) * (WIDTH * HEIGHT), high=(1.0,) * (WIDTH * HEIGHT))

    @property
    def action_space(self) -> Discrete:
        """Up, down, left, right."""
        return Discrete(len(MOVES))

    def reset(self, key: PRNGKeyArray, params: WindyCliffParams) -> tuple[TabularState, Array]:
        """At the start."""
        del key, params
        start = jnp.zeros((), jnp.int32)
        return TabularState(start, time=start), _seen(start)

    def step(
        self, key: PRNGKeyArray, state: TabularState, action: Array, params: WindyCliffParams
    ) -> tuple[TabularState, Step]:
        """The reward of where one stands; then the move, or the wind."""
        mdp = windy_cliffs(params.wind)
        reward = mdp.rewards[state.state, action]
        after = TabularState(draw_index(key, mdp.transitions[state.state, action]), time=state.time + 1)
        over = after.time >= self.max_steps
        return after, Step(_seen(after.state), reward, jnp.zeros((), bool), over)


def _seen(state: Array) -> Array:
    return jax.nn.one_hot(state, WIDTH * HEIGHT, dtype=jnp.float32)
