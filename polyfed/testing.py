"""Public checks of the contracts: hand one a part of your own, it raises `AssertionError` where the part fails.

One check for each of the four interfaces, from the world to the rule; they share the made-up rounds of the first lines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents.agent import Agent
from polyfed.agents.rollout import local_update, start
from polyfed.aggregation.rule import AggregationRule
from polyfed.environments.environment import Environment, Params, quantities
from polyfed.environments.spaces import Discrete
from polyfed.exchange.transform import Transform
from polyfed.leaves import stacked
from polyfed.types import Metrics, Payload, Trajectory, Update

_Round = Callable[[AggregationRule, Update], tuple[Payload, Any, Metrics]]


def _update(payload: Payload, weight: Any) -> Update:
    """An update of NumPy arrays."""
    weight = np.asarray(weight, np.float32)
    return Update(payload=payload, weight=weight)


def _an_update(seed: int, num_clients: int) -> Update:
    """A made-up round in NumPy: parameters and predictions on scales from 1e-3 to 30."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (scale * random.normal(size=(num_clients, *shape))).astype(np.float32)

    network = {"weight": normal(3, 5, scale=0.3), "bias": normal(15, scale=1e-3), "temperature": normal(scale=1.0)}
    payload = {"network": network, "predictions": normal(3, 5, scale=30.0)}
    return _update(payload, random.uniform(0.5, 2.0, size=num_clients))


def _with(update: Update, content: float, where: np.ndarray, weight: Any) -> Update:
    """The update with other weights, the payload of the clients in `where` filled with `content`."""

    def fill(leaf: Any) -> np.ndarray:
        return np.where(where.reshape(-1, *[1] * (leaf.ndim - 1)), np.float32(content), leaf)

    return _update(jax.tree.map(fill, update.payload), weight)


def _rows(tree: Any, clients: Any) -> Any:
    """The rows of some of the clients, in the order given."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[clients], tree)


def _round(rule: AggregationRule, update: Update) -> tuple[Payload, Any, Metrics]:
    """One round from the rule's first state."""
    return rule.aggregate(rule.init(jax.tree.map(lambda leaf: leaf[0], update.payload)), update)


def _assert_same(actual: Any, expected: Any, sentence: str, tolerance: float = 2e-5) -> None:
    """Raises `AssertionError` with the sentence unless all leaves agree, relative to the largest entry of the leaf."""
    given, wanted = str(jax.tree.structure(actual)), str(jax.tree.structure(expected))
    if given != wanted:
        raise AssertionError(f"{sentence} It gave {given}, not {wanted}.")
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        largest = np.max(np.abs(other), initial=0.0, where=np.isfinite(other))
        close = np.isclose(one, other, rtol=0, atol=tolerance * largest, equal_nan=True)
        if not np.all(close):
            where = tuple(int(i) for i in np.argwhere(~close)[0])
            raise AssertionError(f"{sentence} At entry {where} it gave {one[where]!r}, not {other[where]!r}.")


def _check_form(rule: AggregationRule, update: Update, compiled: _Round) -> None:
    """Facts, shapes, types and metrics; the state can go round after round in a compiled loop."""
    name = type(rule).__name__
    for fact in ("linear", "personal"):
        if not isinstance(getattr(rule, fact, None), bool):
            raise AssertionError(f"{name} does not say whether it is {fact}. Set {fact} to True or False in the class.")
    merged, after, metrics = compiled(rule, update)
    for leaf, sent in zip(jax.tree.leaves(merged), jax.tree.leaves(update.payload), strict=True):
        shape = sent.shape if rule.personal else sent.shape[1:]
        if leaf.shape != shape or leaf.dtype != sent.dtype:
            given = f"{leaf.dtype}{list(leaf.shape)} from payloads {sent.dtype}{list(sent.shape)}"
            raise AssertionError(f"{name} gave {given}. Give {sent.dtype}{list(shape)}.")
    if wrong := [key for key, value in metrics.items() if jnp.ndim(value) != 0]:
        raise AssertionError(f"{name} gives metrics {wrong} that are not scalars. Reduce them, or name every entry.")
    before = rule.init(jax.tree.map(lambda leaf: leaf[0], update.payload))
    forms = [jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), state) for state in (before, after)]
    if forms[0] != forms[1]:
        raise AssertionError(f"{name}'s state went from {forms[0]} to {forms[1]}. Keep its shapes and types.")


def _check_clients(rule: AggregationRule, update: Update, compiled: _Round) -> None:
    """Order, scale of weights, absent clients."""
    name, count = type(rule).__name__, len(update.weight)
    merged = compiled(rule, update)[0]
    order = np.random.default_rng(0).permutation(count)
    expected = _rows(merged, order) if rule.personal else merged
    _assert_same(compiled(rule, _rows(update, order))[0], expected, f"{name} depends on the order of the clients.")
    for factor in (0.125, 1024.0):
        scaled = _update(update.payload, update.weight * factor)
        _assert_same(compiled(rule, scaled)[0], merged, f"{name} depends on the scale of the weights.")

    absent = np.isin(np.arange(count), [0, count // 2])
    weight = np.where(absent, 0, update.weight)
    without = _round(rule, _rows(update, ~absent))[0]
    first = None
    for content in (0.0, 1e30, np.inf, np.nan):
        sentence = f"{name} lets through an absent client (weight 0) that holds {content}."
        merged = compiled(rule, _with(update, content, absent, weight))[0]
        first = merged if first is None else first
        _assert_same(merged, first, sentence, 0.0)
        _assert_same(_rows(merged, ~absent) if rule.personal else merged, without, sentence)
        if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(merged)):
            raise AssertionError(f"{sentence} Give that client zeros.")


def _check_consensus(rule: AggregationRule, update: Update, compiled: _Round, tolerance: float) -> None:
    """Equal payloads come back; zeros when nobody came."""
    name, count = type(rule).__name__, len(update.weight)
    nobody = _with(update, np.nan, np.ones(count, bool), np.zeros(count))
    merged = compiled(rule, nobody)[0]
    _assert_same(merged, jax.tree.map(np.zeros_like, merged), f"{name} does not give zeros when nobody came.", 0.0)
    payload = _rows(update.payload, np.zeros(count, int))
    for weight in (np.ones(count), np.where(np.arange(count) % 3 == 1, 0, update.weight)):
        merged = compiled(rule, _update(payload, weight))[0]
        came = np.flatnonzero(weight)
        kept, wanted = (_rows(merged, came), _rows(payload, came)) if rule.personal else (merged, _rows(payload, 0))
        _assert_same(kept, wanted, f"{name} changes payloads that are all equal.", tolerance)


def _check_transformed(rule: AggregationRule, updates: list[Update], compiled: _Round) -> None:
    """The same result in NumPy, in JAX, compiled, and for several seeds at once."""
    name = type(rule).__name__
    expected = [compiled(rule, update)[0] for update in updates]
    arrays = jax.tree.map(jnp.asarray, updates[0])
    _assert_same(_round(rule, arrays)[0], expected[0], f"{name} differs when it is compiled.")
    _assert_same(_round(rule, updates[0])[0], expected[0], f"{name} differs on NumPy arrays.")
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *updates)
    vmapped = jax.jit(jax.vmap(_round, in_axes=(None, 0)))(rule, both)[0]
    for seed, one in enumerate(expected):
        _assert_same(_rows(vmapped, seed), one, f"{name} differs when it is vmapped over seeds.")


def check_rule(rule: AggregationRule, *, num_clients: int = 11, consensus_tolerance: float = 0.0) -> None:
    """Holds a rule to the contract of `AggregationRule`.

    Order and scale of weights do not matter; an absent client, whatever it holds, is as if it had never been there;
    a consensus is kept; nobody gives zeros; leaves keep shape and type; and the rule is the same on NumPy arrays,
    compiled and vmapped over seeds.

    Args:
      rule: The rule, stateful or not, personal or not.
      num_clients: Size of the made-up rounds; up to a third of the clients are absent at times.
      consensus_tolerance: Error allowed where all payloads are equal, relative to the largest entry of a leaf; 0 asks
        for the same values.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.aggregation import WeightedMean
      >>> check_rule(WeightedMean())
    """
    rule.check()
    compiled = jax.jit(_round)
    updates = [_an_update(seed, num_clients) for seed in range(2)]
    _check_form(rule, updates[0], compiled)
    _check_clients(rule, updates[0], compiled)
    _check_consensus(rule, updates[0], compiled, consensus_tolerance)
    _check_transformed(rule, updates, compiled)


_Upload = Callable[[Transform, Update, Payload, Any], tuple[Update, Any]]


def _upload(transform: Transform, update: Update, broadcast: Payload, key: Any) -> tuple[Update, Any]:
    """One round's way up from the transform's first state."""
    state = transform.init(jax.tree.map(lambda leaf: leaf[0], update.payload), len(update.weight))
    return transform.upload(state, update, broadcast, key)


def _distances(update: Update, broadcast: Payload) -> np.ndarray:
    """How far each client's message is from the broadcast, over all leaves, float64 `[C]`."""

    def squares(x: Any, b: Any) -> np.ndarray:
        delta = np.asarray(x, np.float64) - np.asarray(b, np.float64)
        return np.sum(delta.reshape(len(update.weight), -1) ** 2, axis=1)

    return np.sqrt(sum(jax.tree.leaves(jax.tree.map(squares, update.payload, broadcast))))


def _same_bits(one: Any, other: Any) -> bool:
    """Whether all leaves agree bit for bit, NaN with NaN."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) for a, b in leaves)


def _form(tree: Any) -> Any:
    """Structure, shapes and types: what must not change where a compiled loop carries it."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def _check_message(transform: Transform, update: Update, broadcast: Payload, compiled: _Upload) -> None:
    """Facts, shapes and types of what leaves; bytes; the server's half keeps the form of the merged payload."""
    name = type(transform).__name__
    for fact in ("sum_only", "bounds_norm", "keeps_norm"):
        if not isinstance(getattr(transform, fact, None), bool):
            raise AssertionError(f"{name} does not say whether it is {fact}. Set {fact} to True or False in the class.")
    sent, state = compiled(transform, update, broadcast, jax.random.key(0))
    if _form(sent) != _form(update):
        raise AssertionError(f"{name} sends {_form(sent)[1]} for {_form(update)[1]}. Keep shapes and types.")
    first = transform.init(_rows(update.payload, 0), len(update.weight))
    merged = _rows(update.payload, 0)
    received, after = transform.receive(state, merged)
    if _form(first) != _form(state) or _form(first) != _form(after):
        raise AssertionError(f"{name}'s state changes its shapes or types on the way. Keep them.")
    if _form(received) != _form(merged):
        raise AssertionError(f"{name} receives {_form(received)[1]} for {_form(merged)[1]}. Keep shapes and types.")
    for size in (0, 4, 4000):
        if not (isinstance(taken := transform.wire_bytes(size), int) and 0 <= taken <= size):
            raise AssertionError(f"{name} says that {size} bytes take {taken} on the wire. Give 0 to {size}.")


def _check_alone(transform: Transform, update: Update, broadcast: Payload, compiled: _Upload) -> None:
    """Absent clients stay absent; unless `sum_only`, what a client sends follows from its own message."""
    name, count, key = type(transform).__name__, len(update.weight), jax.random.key(1)
    sent, _ = compiled(transform, update, broadcast, key)
    other = np.arange(count) == count // 2
    for content in (0.0, 1e30, np.inf, np.nan):
        weight = np.where(other, 0, update.weight)
        changed, _ = compiled(transform, _with(update, content, other, weight), broadcast, key)
        if np.any(np.asarray(changed.weight)[other] != 0):
            raise AssertionError(f"{name} brings back an absent client (weight 0). Leave its weight at 0.")
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(_rows(changed, ~other))):
            raise AssertionError(f"{name} makes a finite message infinite where an absent client holds {content}.")
        if not transform.sum_only and not _same_bits(_rows(changed, ~other), _rows(sent, ~other)):
            raise AssertionError(
                f"{name} changes the message of one client when another's changes. Act on each alone, or set sum_only."
            )


def _check_size(transform: Transform, update: Update, broadcast: Payload, compiled: _Upload) -> None:
    """`keeps_norm` never enlarges, `bounds_norm` has a bound."""
    name, largest = type(transform).__name__, []
    for scale in (1e-6, 1.0, 1e6, 1e8):
        payload = jax.tree.map(lambda x, b, s=np.float32(scale): b + s * (x - b), update.payload, broadcast)
        given = _update(payload, update.weight)
        before = _distances(given, broadcast)
        after = _distances(compiled(transform, given, broadcast, jax.random.key(2))[0], broadcast)
        rounding = 1e-4 * before + 1e-5
        if transform.keeps_norm and np.any(after > before + rounding):
            raise AssertionError(f"{name} enlarges a difference to the broadcast. Set keeps_norm to False.")
        largest.append(float(after.max()))
    if transform.bounds_norm and largest[-1] > 1.001 * largest[-2]:
        raise AssertionError(f"{name} bounds nothing: {largest[-1]:.3g} went through. Set bounds_norm to False.")


def check_transform(transform: Transform, *, num_clients: int = 5, zero_tolerance: float = 0.0) -> None:
    """Holds a transform to the contract of `Transform`.

    An absent client stays absent, and whatever it holds spoils nobody; a client's message follows from its own alone
    unless `sum_only`; a message equal to the broadcast stays so; what is finite stays finite; `keeps_norm` and
    `bounds_norm` hold as measured; messages never grow on the wire; and the transform is the same compiled and vmapped
    over seeds, with one broadcast for all or one per client.

    Args:
      transform: The transform, stateful or not.
      num_clients: Size of the made-up round.
      zero_tolerance: How far a message equal to the broadcast may move, e.g. `float("inf")` for noise.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.exchange import ClipNorm
      >>> check_transform(ClipNorm(max_norm=0.5))
    """
    transform.check()
    name, part = type(transform).__name__, stacked(transform, None)
    compiled, key, update = jax.jit(_upload), jax.random.key(3), _an_update(0, num_clients)
    own = _an_update(1, num_clients).payload
    for broadcast in (_rows(own, 0), own):  # one for all, or one per client under a personal rule
        _check_message(part, update, broadcast, compiled)
        _check_alone(part, update, broadcast, compiled)
        _check_size(part, update, broadcast, compiled)
        still = _update(jax.tree.map(lambda x, b: np.broadcast_to(b, x.shape), own, broadcast), update.weight)
        moved = _distances(compiled(part, still, broadcast, key)[0], broadcast).max()
        if not transform.sum_only and not moved <= zero_tolerance:
            raise AssertionError(f"{name} moves a message equal to the broadcast by {moved:.3g}. Leave it as it is.")
        once = compiled(part, update, broadcast, key)
        _assert_same(_upload(part, update, broadcast, key), once, f"{name} differs when it is compiled.", 1e-6)
        seeds = jax.jit(jax.vmap(_upload, in_axes=(None, None, None, 0)))(
            part, update, broadcast, jnp.stack([key, key])
        )
        _assert_same(_rows(seeds, 1), once, f"{name} differs when it is vmapped over seeds.", 1e-6)


def _worlds(environment: Environment, num: int) -> Params:
    """Parameters of `num` worlds, each quantity in its range and within a tenth of its nominal value; `[num]`."""
    random, known = np.random.default_rng(0), quantities(environment.params_class)
    values = {n: q["default"] * random.uniform(0.9, 1.1, size=num) for n, q in known.items()}
    return environment.params_class(
        **{n: jnp.asarray(np.clip(v, known[n]["low"], known[n]["high"]), jnp.float32) for n, v in values.items()}
    )


def _any_action(environment: Environment, key: Any) -> Any:
    """A random action."""
    space = environment.action_space
    if isinstance(space, Discrete):
        return jax.random.randint(key, (), 0, space.n, jnp.int32)
    low, high = (jnp.clip(jnp.asarray(bound), -1e3, 1e3) for bound in (space.low, space.high))
    return jax.random.uniform(key, (space.size,), jnp.float32, low, high)


def _walk(environment: Environment, params: Params, key: Any, num_steps: int) -> Any:
    """A random walk: `((key, state, action), (next state, step), fresh)`, leaves `[T, ...]`; fresh after an end."""

    def body(carry: Any, key: Any) -> Any:
        state, fresh = carry
        k_action, k_step, k_reset = jax.random.split(key, 3)
        action = _any_action(environment, k_action)
        after, step = environment.step(k_step, state, action, params)
        over = step.terminated | step.truncated
        anew, _ = environment.reset(k_reset, params)
        new = jax.tree.map(lambda x, y: jnp.where(over, x, y), anew, after)
        return (new, over), ((k_step, state, action), (after, step), fresh)

    k_first, k_walk = jax.random.split(key)
    state, _ = environment.reset(k_first, params)
    return jax.lax.scan(body, (state, jnp.ones((), bool)), jax.random.split(k_walk, num_steps))[1]


def _check_world(environment: Environment) -> None:
    """Quantities with units and ranges; a hashable value; shapes and types of states and steps."""
    name = type(environment).__name__
    if jax.tree.leaves(environment) or hash(environment) != hash(dataclasses.replace(environment)):
        raise AssertionError(f"{name} is not a hashable value without arrays. Make its fields static.")
    for field in dataclasses.fields(environment.params_class):
        spec = field.metadata
        if not spec.get("unit") or not spec["low"] <= field.default <= spec["high"]:
            raise AssertionError(f"{name} has a quantity {field.name} without a unit or range. Make it by `quantity`.")
    params, key = environment.nominal(), jax.random.key(0)
    action = jax.eval_shape(lambda: _any_action(environment, key))
    try:
        state, observation = jax.eval_shape(environment.reset, key, params)
        after, step = jax.eval_shape(environment.step, key, state, action, params)
    except jax.errors.JAXTypeError as error:
        sentence = f"{name} needs to know a state or a quantity before it can be compiled."
        raise AssertionError(f"{sentence} Use `jnp.where` in place of `if`.") from error
    if _form(after) != _form(state):
        raise AssertionError(f"{name}'s state goes from {_form(state)[1]} to {_form(after)[1]}. Keep shapes and types.")
    real, flag, seen = ((), jnp.float32), ((), jnp.bool_), _form(observation)[1][0]
    given = [_form(x)[1][0] for x in (step.observation, step.reward, step.terminated, step.truncated)]
    if given != [seen, real, flag, flag] or seen[1] != jnp.float32:
        raise AssertionError(f"{name} shows {seen} first and then gives {given}. Give float32, and bool flags.")
    space = environment.observation_space
    if not isinstance(space, Discrete) and seen[0] != (space.size,):
        raise AssertionError(f"{name} shows {seen[0]}, but its space has {space.size} numbers. Make them agree.")


def _check_walks(environment: Environment, before: Any, given: Any, fresh: np.ndarray, params: Params) -> None:
    """What random walks showed, leaves `[N, ...]`; `params` and `before` are what every step started from."""
    name, space, (_, step) = type(environment).__name__, environment.observation_space, given
    if not all(np.isfinite(x).all() for x in (step.observation, step.reward)):
        raise AssertionError(f"{name} gives an observation or a reward that is not finite. Bound it.")
    seen = np.asarray(step.observation)
    if not isinstance(space, Discrete) and np.any(
        (seen < np.asarray(space.low, np.float32)) | (seen > np.asarray(space.high, np.float32))
    ):
        raise AssertionError(f"{name} shows what its observation space does not hold. Widen the space.")
    now, starts = np.arange(len(fresh)), np.flatnonzero(fresh)
    lasted = now - starts[np.searchsorted(starts, now, side="right") - 1] + 1
    if not np.array_equal(np.asarray(step.truncated), lasted == environment.max_steps):
        raise AssertionError(f"{name} does not truncate at max_steps alone. Let the clock, and only it, truncate.")
    numbers = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float32), tree)  # noqa: E731
    together = jax.jit(jax.vmap(environment.step))(*before, params)
    _assert_same(numbers(together), numbers(given), f"{name} steps stacked worlds not as it steps one.", 1e-4)


def check_environment(environment: Environment, *, num_clients: int = 3, num_steps: int = 200) -> None:
    """Holds a family of worlds to the contract of `Environment`.

    Its quantities have units and ranges; states keep shape and type; what is seen lies in the space and rewards are
    finite; only the clock truncates, at `max_steps`; and worlds can be compiled for any quantities, and step in a stack
    as they step one by one.

    Args:
      environment: The family.
      num_clients: Worlds that are walked through at random, each a little different.
      num_steps: Steps of each walk; episodes that end begin anew.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.environments import CartPole
      >>> check_environment(CartPole())
    """
    _check_world(environment)
    environment = dataclasses.replace(environment, max_steps=min(environment.max_steps, max(num_steps // 4, 2)))
    walk = jax.jit(lambda params, key: _walk(environment, params, key, num_steps))
    params, keys = _worlds(environment, num_clients), jax.random.split(jax.random.key(1), num_clients)
    walks = [walk(jax.tree.map(lambda x, i=i: x[i], params), keys[i]) for i in range(num_clients)]
    before, given, fresh = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *walks)
    each = jax.tree.map(lambda x: jnp.repeat(x, num_steps), params)
    _check_walks(environment, before, given, np.asarray(fresh), each)


def _told(agent: Agent, environment: Environment, state: Any, num_envs: int) -> Trajectory:
    """A rollout that it may learn from: one step in fresh worlds, `rollout_length` times over."""
    params, key = jax.tree.map(lambda x: jnp.broadcast_to(x, num_envs), environment.nominal()), jax.random.key(4)
    worlds = start(environment, params, key)
    action = agent.act(state, worlds.observation, key)
    _, step = jax.vmap(environment.step)(jax.random.split(key, num_envs), worlds.state, action, params)
    one = Trajectory(worlds.observation, action, step.reward, step.observation, step.terminated, step.truncated)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (agent.rollout_length, *x.shape)), one)


def _life(agent: Agent, environment: Environment, broadcast: Payload, num: tuple[int, int]) -> Any:
    """`(state, rollout)`: a learner that took in a broadcast and lived `num = (environments, steps)`; see `_told`."""
    params = jax.tree.map(lambda x: jnp.broadcast_to(x, num[0]), environment.nominal())
    k_agent, k_worlds, k_life = jax.random.split(jax.random.key(0), 3)
    state = agent.absorb(agent.init(k_agent, environment, num[0]), broadcast)
    worlds = start(environment, params, k_worlds)
    state, _, _ = local_update(environment, agent, (state, worlds, params), k_life, num_steps=num[1])
    return state, _told(agent, environment, state, num[0])


def _check_actions(agent: Agent, environment: Environment, state: Any, num_envs: int) -> None:
    """Actions of the space, with and without exploration."""
    name, space = type(agent).__name__, environment.action_space
    params = jax.tree.map(lambda x: jnp.broadcast_to(x, num_envs), environment.nominal())

    @jax.jit
    def choose(key: Any) -> tuple[Any, Any]:
        seen = start(environment, params, jax.random.key(0)).observation
        return agent.act(state, seen, key), agent.policy(state, seen)

    chosen = choose(jax.random.key(4))
    wanted = (num_envs,) if isinstance(space, Discrete) else (num_envs, space.size)
    low, high = (
        (0, space.n - 1)
        if isinstance(space, Discrete)
        else (np.asarray(space.low, np.float32), np.asarray(space.high, np.float32))
    )
    kind = jnp.integer if isinstance(space, Discrete) else jnp.floating
    for action in chosen:
        if action.shape != wanted or not jnp.issubdtype(action.dtype, kind):
            given = f"{action.dtype}{list(action.shape)}"
            raise AssertionError(f"{name} chose {given}. Give {kind.__name__}{list(wanted)}.")
        if not np.all((np.asarray(action) >= low) & (np.asarray(action) <= high)):
            raise AssertionError(f"{name} chose an action outside {space}. Clip it.")


def _check_learning(agent: Agent, environment: Environment, state: Any, num_envs: int) -> None:
    """`learn` can be compiled for any numbers, keeps the form of the state, and gives named scalars."""
    name, key = type(agent).__name__, jax.random.key(5)
    told = jax.eval_shape(lambda: _told(agent, environment, state, num_envs))
    try:
        after, metrics = jax.eval_shape(lambda agent, *given: agent.learn(*given, key), agent, state, told)
    except jax.errors.JAXTypeError as error:
        sentence = f"{name} needs to know a number before it can be compiled."
        raise AssertionError(f"{sentence} Use `jnp.where`, or make what fixes a shape or a branch static.") from error
    if _form(after) != _form(state):
        raise AssertionError(f"{name}'s state changes its shapes or types as it learns. Keep them.")
    if wrong := [key for key, value in metrics.items() if jnp.ndim(value) != 0]:
        raise AssertionError(f"{name} gives metrics {wrong} that are not scalars. Reduce them, or name every entry.")


def check_agent(agent: Agent, environment: Environment, *, num_envs: int = 2, num_steps: int = 600) -> None:
    """Holds a learner to the contract of `Agent`.

    Another key makes another learner; what is shared are finite arrays, and what is absorbed is what is shared next;
    training does change it, and leaves the broadcast itself as it was, byte for byte; actions lie in the space; the
    state keeps shapes and types; and `learn` can be compiled for any numbers, and is the same alone and in a stack.

    Args:
      agent: The learner; it must begin to learn within `num_steps`.
      environment: A world that fits it.
      num_envs: Copies of the world that it lives in.
      num_steps: Local steps of the life that is looked at, a multiple of `agent.rollout_length`.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.agents import DQN
      >>> from polyfed.environments import CartPole
      >>> check_agent(DQN(hidden=(8,), batch_size=8, learning_starts=5), CartPole(), num_steps=20)
    """
    agent.check(environment)
    name, agent = type(agent).__name__, stacked(agent, None)
    begin = jax.jit(lambda key: agent.init(key, environment, num_envs))
    first, other = (begin(jax.random.key(k)) for k in (1, 2))
    shared = agent.share(first)
    if _same_bits(shared, agent.share(other)):
        raise AssertionError(f"{name} begins the same for every key. Draw from the key.")
    memory = jax.tree.map(lambda leaf: np.array(leaf), shared)  # may be shared with what the agent is given
    broadcast, before = jax.tree.map(jnp.asarray, memory), jax.tree.map(np.copy, memory)
    _check_actions(agent, environment, first, num_envs)
    _check_learning(agent, environment, first, num_envs)
    absorbed = agent.absorb(first, broadcast)
    state, trajectory = jax.jit(lambda b: _life(agent, environment, b, (num_envs, num_steps)))(broadcast)
    if not (_same_bits(memory, before) and _same_bits(broadcast, before)):
        raise AssertionError(f"{name} trains the broadcast in place. Work on a copy: what is broadcast is read-only.")
    if not _same_bits(agent.share(absorbed), before):
        raise AssertionError(f"{name} does not share what it has just absorbed. Take the broadcast as it is.")
    if _form(absorbed) != _form(first):
        raise AssertionError(f"{name}'s state changes its shapes or types as it absorbs. Keep them.")
    learned = agent.share(state)
    if _form(learned) != _form(shared) or not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learned)):
        raise AssertionError(f"{name} does not share finite arrays of one form throughout its life. Keep to one.")
    if _same_bits(learned, before):
        raise AssertionError(f"{name} has learned nothing in {num_steps} steps. Give num_steps in which it does.")
    learn = lambda agent, *given: agent.share(agent.learn(*given, jax.random.key(5))[0])  # noqa: E731
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (agent, state, trajectory))
    alone, stack = jax.jit(learn)(agent, state, trajectory), jax.jit(jax.vmap(learn))(*two)
    _assert_same(_rows(stack, 1), alone, f"{name} learns otherwise in a stack of clients.", 1e-4)
