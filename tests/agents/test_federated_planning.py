"""Federated planning: QAvg, FedRQ and PAvg against naive loops, and the anchors of the paper sheet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import Constant, PAvg, Plateau, QAvg, RobbinsMonro, plan
from polyfed.agents.step_sizes import step_size
from polyfed.environments import planning, random_mdps, random_mdps_common, split_envs

TRAIN, TEST = split_envs(random_mdps(jax.random.key(3), 3, 5), 3)


def naive(method, mdps, n, period, num_steps, rate):
    """Instance `n` in NumPy loops and float64: the mean message."""
    moves, rewards = np.asarray(mdps.transitions, np.float64)[n], np.asarray(mdps.rewards, np.float64)[n, 0]
    discount, num = mdps.discount, len(moves)
    neighbours = np.any(moves > 0, axis=(0, 2))
    q = [np.zeros(rewards.shape)] * num
    v = [np.zeros(len(rewards))] * num
    for t in range(num_steps):
        ends = period is None or (t + 1) % period == 0
        if method.local == "q_damped":
            q = [
                (1 - rate) * q[k]
                + rate
                * (
                    rewards
                    + discount
                    * (
                        (1 - method.omega) * moves[k] @ q[k].max(1)
                        + method.omega * np.array([q[k].max(1)[row].min() for row in neighbours])[:, None]
                    )
                )
                for k in range(num)
            ]
            if ends and period is not None:
                q = [np.mean(q, axis=0)] * num
            continue
        v = [(1 - rate) * v[k] + rate * (rewards + discount * moves[k] @ v[k]).max(1) for k in range(num)]
        if ends:
            q = [rewards + discount * moves[k] @ v[k] for k in range(num)]
            q = q if period is None else [np.mean(q, axis=0)] * num
            v = [one.max(1) for one in q]
    return np.mean(q, axis=0)


WAYS = [
    (method, period) for method in (QAvg(), QAvg("v_damped_full_backup"), QAvg(omega=0.3)) for period in (1, 4, None)
]


@pytest.mark.parametrize(
    ("method", "period"),
    [way if i % 4 == 0 else pytest.param(*way, marks=pytest.mark.slow) for i, way in enumerate(WAYS)],
    ids=repr,
)
def test_tables_are_those_of_naive_loops(method, period):
    method = QAvg(method.local, method.omega, Constant(0.2))
    planned = plan(method, TRAIN, local_steps=period, num_steps=12)
    for n in range(3):
        known = naive(method, TRAIN, n, period, 12, 0.2)
        np.testing.assert_allclose(planned.message[n], known, rtol=1e-4)


def test_without_a_worst_neighbour_the_sets_do_not_matter_bit_for_bit():
    every = jnp.ones((3, 1, 5, 5), bool)
    known, wide = (plan(QAvg(), TRAIN, local_steps=2, num_steps=8, neighbours=sets) for sets in (None, every))
    np.testing.assert_array_equal(known.message, wide.message)
    robust = plan(QAvg(omega=0.3), TRAIN, local_steps=2, num_steps=8, neighbours=every)
    assert not np.array_equal(known.message, robust.message)


@pytest.mark.slow
def test_fedrq_reaches_the_robust_fixed_point_and_qavg_does_not():
    with jax.enable_x64(True):
        mdps = random_mdps_common(jax.random.key(0), 3, 3, dtype=jnp.float64)
        mean = jnp.moveaxis(mdps.transitions.mean(1), 0, -1)
        rewards = jnp.moveaxis(mdps.rewards[:, 0], 0, -1)
        sets = jnp.any(mean > 0, axis=1)
        robust = planning.robust_value_iteration(mean, rewards, 0.9, omega=0.3, neighbours=sets, tolerance=1e-10)
        reference = jnp.moveaxis(robust, -1, 0)
        far = {
            omega: plan(
                QAvg(omega=omega, step_size=Constant(0.5)),
                mdps,
                local_steps=1,
                num_steps=500,
                reference=reference,
                curves=True,
            ).curves["distance"]
            for omega in (0.3, 0.0)
        }
        far = jax.tree.map(np.asarray, far)
    assert np.max(far[0.3][:, -1]) < 1e-6
    assert np.min(far[0.0][:, -1]) > 0.1


@pytest.mark.slow
def test_sampled_fedrq_converges_with_robbins_monro_step_sizes():
    mdps = random_mdps_common(jax.random.key(0), 8, 3)
    mean, rewards = jnp.moveaxis(mdps.transitions.mean(1), 0, -1), jnp.moveaxis(mdps.rewards[:, 0], 0, -1)
    robust = planning.robust_value_iteration(mean, rewards, 0.9, omega=0.3, neighbours=jnp.any(mean > 0, axis=1))
    reference = jnp.moveaxis(robust, -1, 0)
    method = QAvg(omega=0.3, sampled=True, step_size=RobbinsMonro.paper(0.9, 10))
    given = {"local_steps": 10, "num_steps": 20_000, "reference": reference, "curves": True}
    far = np.asarray(plan(method, mdps, key=jax.random.key(1), **given).curves["distance"])
    assert far[:, -1].mean() < 0.1
    assert far[:, -1].mean() < 0.35 * far[:, 999].mean()  # ten samples in a hundred: about 1 / sqrt(20)


def reference_policy(method, period, num_steps, rate):
    """Instance 0 in NumPy loops: the mean message of PAvg."""
    moves, rewards = np.asarray(TRAIN.transitions, np.float64)[0], np.asarray(TRAIN.rewards, np.float64)[0, 0]
    own = np.zeros((3, 5, 5)) if method.parameterization != "projected" else np.full((3, 5, 5), 0.2)
    soft = lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)  # noqa: E731
    for t in range(num_steps):
        for k in range(3):
            policy = own[k] if method.parameterization == "projected" else soft(own[k])
            visits = np.linalg.inv(np.eye(5) - 0.9 * np.einsum("sa,sat->st", policy, moves[k]))
            values = visits @ (policy * rewards).sum(1)
            q, d = rewards + 0.9 * moves[k] @ values, 0.1 * (np.full(5, 0.2) @ visits)[:, None]
            if method.parameterization == "softmax_npg":
                own[k] = own[k] + rate * (q - values[:, None]) / 0.1
            elif method.parameterization == "softmax_pg":
                own[k] = own[k] + rate * d * policy * (q - values[:, None]) / 0.1
            else:
                own[k] = [project(row) for row in own[k] + rate * d * q / 0.1]
        if (t + 1) % period == 0:
            shared = soft(own) if method.average == "probabilities" and method.parameterization != "projected" else own
            mean = shared.mean(0)
            own[:] = np.log(mean) if shared is not own else mean
    return mean


def project(row):
    """By sorting (Duchi et al. 2008, figure 1)."""
    ordered = np.sort(row)[::-1]
    tau = (np.cumsum(ordered) - 1) / np.arange(1, len(row) + 1)
    return np.maximum(row - tau[np.flatnonzero(ordered > tau)[-1]], 0)


@pytest.mark.parametrize(
    ("parameterization", "average"),
    [
        ("softmax_npg", "logits"),
        pytest.param("softmax_pg", "probabilities", marks=pytest.mark.slow),
        ("projected", "probabilities"),
    ],
)
def test_policies_are_those_of_naive_loops(parameterization, average):
    method = PAvg(parameterization, average, Constant(0.05))
    planned = plan(method, TRAIN, local_steps=2, num_steps=6)
    np.testing.assert_allclose(planned.message[0], reference_policy(method, 2, 6, 0.05), atol=2e-5)
    np.testing.assert_allclose(np.sum(planned.policy, axis=-1), 1, atol=1e-5)


def test_plateau_decays_as_published():
    worth, rate, rates = [1.0, 2.0, 2.001, 3.0, 3.0, 4.0], 0.5, []
    pace, seen = Plateau(learning_rate=0.5, decay=0.1).init(jnp.zeros(1)), jax.jit(Plateau.seen)
    for e, value in enumerate(worth):
        if e >= 2 and value - worth[e - 1] < 1e-3 * worth[e - 1]:
            rate *= 0.1
        pace = seen(Plateau(learning_rate=0.5, decay=0.1), pace, jnp.array([value]))
        rates.append((float(pace.rate[0]), rate))
    np.testing.assert_allclose(*zip(*rates, strict=True), rtol=1e-6)


@pytest.mark.slow
def test_decay_is_looked_at_every_round_or_every_local_step():
    ways = {look: step_size(0.5, 0.5, look) for look in ("round", "local_step", None)}
    far = {look: plan(QAvg(step_size=way), TRAIN, local_steps=8, num_steps=64).message for look, way in ways.items()}
    assert np.all(far["local_step"] <= far["round"] + 1e-5)  # values rise from 0: smaller steps, lower values
    assert float(np.mean(far["local_step"])) < float(np.mean(far["round"])) - 1e-3
    with pytest.raises(ValueError, match="decay_check = 'never' is not known"):
        step_size(0.5, 0.5, "never")


@pytest.mark.slow
def test_objectives_and_baselines_agree_with_planning():
    planned = plan(QAvg("v_damped_full_backup"), TRAIN, test=TEST, local_steps=None, num_steps=20, curves=True)
    for n in range(3):
        rewards = TRAIN.rewards[n, 0]
        worth = [
            planning.objective(planned.policy[n], mdps.transitions[n], rewards, mdps.start, 0.9)
            for mdps in (TRAIN, TEST)
        ]
        assert float(planned.train[n]) == pytest.approx(float(worth[0].mean()), rel=1e-5)
        assert float(planned.centre[n]) == pytest.approx(float(worth[0][0]), rel=1e-5)
        assert float(planned.test[n]) == pytest.approx(float(worth[1].mean()), rel=1e-5)
    assert np.all(planned.best_local() >= planned.mean_local())
    np.testing.assert_allclose(planned.best_local(), np.max(planned.local_train, axis=1))
    np.testing.assert_allclose(planned.curves["test"][:, -1], planned.test, rtol=1e-5)
    alone = plan(QAvg("v_damped_full_backup"), TRAIN, local_steps=2, num_steps=4, curves=True)
    assert np.isnan(alone.test).all()
    assert np.isnan(alone.curves["train"][:, ::2]).all()
    assert np.isfinite(alone.curves["train"][:, 1::2]).all()


@pytest.mark.parametrize(
    ("method", "given", "sentence"),
    [
        (QAvg(omega=1.5), {}, r"method\.omega = 1\.5 is out of range"),
        (QAvg("q_damp"), {}, "did you mean 'q_damped'"),
        (QAvg("v_damped_full_backup", omega=0.1), {}, "knows neither a worst neighbour nor"),
        (QAvg(sampled=True), {}, "no key was given"),
        (PAvg("projected", "logits"), {}, "have no logits to average"),
        (PAvg("softmax"), {}, r"method\.parameterization = 'softmax' is not known"),
        (PAvg(average="mean"), {}, r"method\.average = 'mean' is not known"),
        (QAvg(), {"local_steps": 3}, "num_steps = 4 is no multiple of local_steps = 3"),
        (QAvg(), {"num_steps": 0}, "num_steps = 0 "),
        (QAvg(step_size=Constant(2.0)), {}, r"step_size\.learning_rate = 2 is out of range"),
        (QAvg(step_size=RobbinsMonro(offset=0.0)), {}, r"step_size\.offset = 0 is out of range"),
        (QAvg(step_size=Plateau(decay=2.0)), {}, r"step_size\.decay = 2 is out of range"),
    ],
)
def test_refuses(method, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(method, TRAIN, **{"local_steps": 2, "num_steps": 4, **given})


# Train and test value, s.e. of each, at the last iteration of 128 for E = 1 (paper sheet, section 3.5; ours measured).
@pytest.mark.slow
def test_qavg_on_random_mdps_has_the_anchor_values():
    train, test = split_envs(random_mdps(jax.random.key(0), 2000, 25), 5)
    planned = plan(QAvg("v_damped_full_backup"), train, test=test, local_steps=1, num_steps=128)
    spread = 2 * np.hypot(0.015, 0.015)
    assert float(planned.train.mean()) - train.shift == pytest.approx(3.397, abs=spread)
    assert float(planned.test.mean()) - train.shift == pytest.approx(3.288, abs=spread)
