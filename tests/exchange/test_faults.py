import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from polyfed.agents.distillation import Distillation
from polyfed.aggregation import ServerSGD, WeightedMean
from polyfed.environments.public_states import UniformStates
from polyfed.exchange import DelayMessages, LoseMessages, PartialWork, Predictions, Quorum, VanishAndReturn
from polyfed.exchange.combinations import check_late
from polyfed.exchange.faults import staleness_share
from polyfed.exchange.server_walk import ServerStates
from polyfed.leaves import stacked
from polyfed.simulation.round import Server, ServerParts, server_round
from polyfed.types import Update

PAYLOAD = jnp.arange(6.0).reshape(3, 2)
WEIGHT = jnp.array([2.0, 1.0, 0.5])


@jax.jit
def weights(transform, weight, keys):
    def one(key):
        return transform.upload((), Update(jnp.zeros((len(weight), 1)), weight), jnp.zeros(1), key)[0].weight

    return jax.vmap(one)(keys)


@jax.jit
def in_time(transform, weight, keys):
    """Round after round, messages numbered by their round, from 1: what came, `(payload [R, C], weight [R, C])`."""
    count = len(weight)

    def one(state, keyed):
        key, nth = keyed
        payload = jnp.full((count, 1), nth, jnp.float32)
        update, state = transform.upload(state, Update(payload, weight), jnp.zeros(1), key)
        return state, (update.payload[:, 0], update.weight)

    numbered = keys, 1 + jnp.arange(len(keys))
    return jax.lax.scan(one, transform.init(jnp.zeros(1), count), numbered)[1]


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.9])
def test_loses_as_often_as_it_says_each_client_alone(probability):
    left = np.asarray(weights(LoseMessages(jnp.float32(probability)), WEIGHT, keys(5000)))
    lost = left == 0
    for client in range(3):
        assert stats.binomtest(int(lost[:, client].sum()), 5000, probability).pvalue > 1e-3
        assert set(left[~lost[:, client], client]) == {(2.0, 1.0, 0.5)[client]}
    both = int((lost[:, 0] & lost[:, 1]).sum())  # one client's loss says nothing of another's
    assert stats.binomtest(both, 5000, probability**2).pvalue > 1e-3
    again = int((lost[1:, 0] & lost[:-1, 0]).sum())  # nor of the next round's
    assert stats.binomtest(again, 4999, probability**2).pvalue > 1e-3


@pytest.mark.parametrize(("probability", "left"), [(0.0, [1.0, 2.0, 0.0]), (1.0, [0.0, 0.0, 0.0])])
def test_never_and_always(probability, left):
    for seed in range(50):
        update = Update(PAYLOAD, jnp.array([1.0, 2.0, 0.0]))
        sent, _ = LoseMessages(probability).upload((), update, jnp.zeros(2), jax.random.key(seed))
        assert sent.weight.tolist() == left
        assert sent.payload is PAYLOAD


def test_staleness_is_that_of_fedasync():
    np.testing.assert_allclose(staleness_share([0, 1, 2, 3], 0.5), [1, 2**-0.5, 3**-0.5, 0.5], rtol=1e-6)
    assert staleness_share([0, 5], 0.0).tolist() == [1.0, 1.0]


def naive_delays(late, rounds, weight, exponent):
    """One client, message by message: `(number of the message that counts or 0, what it counts)` of every round."""
    found, under_way = [], None
    for now, (is_late, needs) in enumerate(zip(late, rounds, strict=True), start=1):
        comes = under_way is not None and under_way[1] == now
        message = under_way if comes else None
        if comes:
            under_way = None
        if is_late and under_way is None:
            under_way = now, now + needs, needs
        if not is_late:
            found.append((now, weight))
        elif message:
            found.append((message[0], weight * (message[2] + 1) ** -exponent))
        else:
            found.append((0, 0.0))
    return found


def test_delays_are_those_of_a_naive_loop():
    part, num = stacked(DelayMessages(0.5, most=4, exponent=0.7), None), 400
    sent, counted = map(np.asarray, in_time(part, WEIGHT, keys(num)))
    first, second = jnp.moveaxis(jax.vmap(jax.random.split)(keys(num)), 1, 0)
    late = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (3,), jnp.float32))(first)) < 0.5
    rounds = np.asarray(jax.vmap(lambda key: jax.random.randint(key, (3,), 1, 5))(second))
    for client in range(3):
        expected = naive_delays(late[:, client], rounds[:, client], float(WEIGHT[client]), 0.7)
        np.testing.assert_allclose(counted[:, client], [share for _, share in expected], rtol=1e-6)
        came = counted[:, client] > 0
        np.testing.assert_array_equal(sent[came, client], [nth for nth, _ in expected if nth])


def test_nothing_is_older_than_the_most():
    num, most = 2000, 3
    sent, counted = map(np.asarray, in_time(stacked(DelayMessages(0.9, most, 0.5), None), WEIGHT, keys(num)))
    age = np.where(counted > 0, 1 + np.arange(num)[:, None] - sent, 0)
    assert set(np.unique(age)) == {0, 1, 2, 3}
    np.testing.assert_allclose(counted[age > 0], (WEIGHT * (age + 1.0) ** -0.5)[age > 0], rtol=1e-6)


def test_all_late_messages_come_though_nobody_is_in_time():
    """A round to which nobody came must not undo what is under way."""
    parts = ServerParts((stacked(DelayMessages(1.0, most=1), None),), WeightedMean(), ServerSGD())
    broadcast = jnp.zeros(2)
    server = Server(broadcast, (), (parts.transforms[0].init(broadcast, 3),), parts.optimizer.init(broadcast))
    one_round, seen = jax.jit(server_round), []
    for nth in range(4):
        update = Update(jnp.full((3, 2), float(nth + 1)), jnp.ones(3))
        server, metrics = one_round(parts, server, update, jax.random.key(nth))
        seen.append((float(server.broadcast[0]), float(metrics["weight"][0])))
    share = float(staleness_share(1, 0.5))
    assert seen == [(0.0, 0.0), (1.0, share), (2.0, share), (3.0, share)]


def test_who_is_absent_sends_nothing_late():
    _, counted = in_time(stacked(DelayMessages(1.0, most=2), None), jnp.array([1.0, 0.0, 1.0]), keys(50))
    assert not np.asarray(counted)[:, 1].any()
    assert np.asarray(counted)[:, 0].any()


def test_never_late_is_nothing():
    update = Update(PAYLOAD, WEIGHT)
    part = DelayMessages(0.0)
    sent, _ = part.upload(part.init(PAYLOAD[0], 3), update, jnp.zeros(2), jax.random.key(0))
    assert sent.payload.tolist() == PAYLOAD.tolist()
    assert sent.weight.tolist() == WEIGHT.tolist()


def test_clients_are_away_for_a_geometric_time():
    leave, rounds, num = 0.1, 4.0, 20_000
    _, counted = in_time(stacked(VanishAndReturn(leave, rounds), None), WEIGHT, keys(num))
    away = np.asarray(counted) == 0
    edges = np.diff(np.concatenate([[0], away[:, 0].astype(int), [0]]))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    found = np.bincount(np.minimum(lengths, 12), minlength=13)[1:]
    share = stats.geom.pmf(np.arange(1, 13), 1 / rounds)
    share[-1] = stats.geom.sf(11, 1 / rounds)
    assert stats.chisquare(found, found.sum() * share).pvalue > 1e-3
    assert away.mean() == pytest.approx(leave / (leave + 1 / rounds), abs=0.02)
    assert abs(np.corrcoef(away[:, 0], away[:, 1])[0, 1]) < 0.05


@pytest.mark.parametrize(("part", "there"), [(VanishAndReturn(0.0), True), (VanishAndReturn(1.0, 1e9), False)])
def test_all_stay_and_all_go(part, there):
    _, counted = in_time(stacked(part, None), WEIGHT, keys(20))
    assert np.all((np.asarray(counted) > 0) == there)


def test_part_of_the_work_is_part_of_the_change():
    broadcast = jnp.array([1.0, -1.0])
    update = Update({"w": broadcast + PAYLOAD, "n": jnp.int32([1, 2, 3])}, WEIGHT)
    one = jax.jit(lambda part, key: part.upload((), update, {"w": broadcast, "n": jnp.int32(0)}, key)[0])
    part = stacked(PartialWork(0.5, least=0.25), None)
    shares = np.stack([np.asarray(one(part, key).payload["w"] - broadcast)[1:, 1] / [3.0, 5.0] for key in keys(300)])
    assert stats.binomtest(int((shares[:, 0] < 1).sum()), 300, 0.5).pvalue > 1e-3
    slow = shares[:, 0][shares[:, 0] < 1]
    assert stats.kstest(slow, stats.uniform(0.25, 0.75).cdf).pvalue > 1e-3
    sent = one(part, jax.random.key(0))
    assert sent.payload["n"].tolist() == [1, 2, 3]
    assert sent.weight.tolist() == WEIGHT.tolist()


@pytest.mark.parametrize(("least", "left"), [(1, [2.0, 0.0, 0.5]), (2, [2.0, 0.0, 0.5]), (3, [0.0, 0.0, 0.0])])
def test_a_quorum_counts_who_came(least, left):
    update = Update(PAYLOAD, jnp.array([2.0, 0.0, 0.5]))
    sent, _ = Quorum(least).upload((), update, jnp.zeros(2), jax.random.key(0))
    assert sent.weight.tolist() == left
    assert sent.payload is PAYLOAD


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (LoseMessages(-0.1), r"transforms\.probability = -0\.1 is out of range: give a number from 0 to 1\."),
        (LoseMessages(1.1), r"transforms\.probability = .* is out of range: give a number from 0 to 1\."),
        (LoseMessages(float("nan")), r"transforms\.probability = .* is out of range: give a number from 0 to 1\."),
        (DelayMessages(2.0), r"transforms\.probability = 2 is out of range"),
        (DelayMessages(most=0), r"transforms\.most = 0 rounds is out of range"),
        (DelayMessages(exponent=-1.0), r"transforms\.exponent = -1 is out of range"),
        (VanishAndReturn(leave=-1.0), r"transforms\.leave = -1 is out of range"),
        (VanishAndReturn(rounds=0.5), r"transforms\.rounds = 0\.5 rounds is out of range"),
        (PartialWork(probability=3.0), r"transforms\.probability = 3 is out of range"),
        (PartialWork(least=-1.0), r"transforms\.least = -1 is out of range"),
        (Quorum(0), r"transforms\.least = 0 clients is out of range"),
    ],
    ids=str,
)
def test_refuses(part, sentence):
    with pytest.raises(ValueError, match=sentence):
        part.check()


def test_what_is_late_must_still_be_an_answer():
    once = Predictions(UniformStates(num=8), Distillation(chunks=1, repetitions=1))
    check_late((DelayMessages(),), once)
    check_late((LoseMessages(),), ServerStates())
    with pytest.raises(ValueError, match="where the server stood some rounds before"):
        check_late((DelayMessages(),), ServerStates())
    with pytest.raises(ValueError, match="clients exchange messages 10 times in one"):
        check_late((DelayMessages(),), Predictions())
