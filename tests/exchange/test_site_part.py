"""What a site sends is what the simulation makes of its row among all, in as many bytes as were declared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from polyfed.exchange import ClipNorm, HalfPrecision, Int8, LocalNoise, PartialWork, TopK, WireSize
from polyfed.exchange.site_part import NUMBERS, PLACES, SitePart
from polyfed.exchange.transform import upload_keys
from polyfed.exchange.wire import Manifest, Refused
from polyfed.leaves import stacked
from polyfed.types import Update

CLIENTS, SIZE = 3, 1200
DRAW = np.random.default_rng(0)
SENT = {"count": np.int32(3), "w": (100 * DRAW.normal(size=(30, 40))).astype(np.float32)}
LEARNED = {
    "count": np.int32([1, 2, 3]),
    "w": (SENT["w"] + DRAW.normal(size=(CLIENTS, 30, 40)) * np.float32([1, 1e-3, 10])[:, None, None]).astype("f4"),
}
ONE = jax.tree.map(lambda x: x[0], LEARNED)


def bits(x):
    return np.asarray(x).tobytes()


def simulated(transforms, rounds):
    """What each of all clients sends in a simulation, by round."""
    parts = stacked(transforms, None)
    states, found = [part.init(ONE, CLIENTS) for part in parts], []

    @jax.jit
    def way_up(parts, states, key):
        update, after = Update(LEARNED, jnp.ones(CLIENTS)), []
        for part, state, k in zip(parts, states, upload_keys(key, len(parts)), strict=True):
            update, state = part.upload(state, update, SENT, k)
            after.append(state)
        return update.payload, after

    for key in rounds:
        payload, states = way_up(parts, states, key)
        found.append(jax.tree.leaves(payload))
    return found


@pytest.mark.bits
@pytest.mark.parametrize(
    "transforms",
    [(HalfPrecision(),), (Int8(),), (TopK(0.05), Int8()), (PartialWork(1.0), TopK(0.1))],
    ids=lambda parts: " ".join(type(part).__name__ for part in parts),
)
def test_a_site_alone_sends_what_it_sends_among_all_and_as_many_bytes_as_declared(transforms):
    keys = [jax.random.key(seed) for seed in (0, 1)]
    expected, site = simulated(transforms, keys), SitePart(transforms, ONE)
    names = [form.name for form in site.manifest.arrays]
    for client in range(CLIENTS):
        state = site.begin()
        for nth, key in enumerate(keys):  # the second with what is owed from the first
            own = jax.tree.map(lambda x, client=client: x[client], LEARNED)
            arrays, came, state = site.send(state, own, SENT, key, client)
            found = site.read(dict(zip(names, arrays, strict=True)), jax.tree.leaves(SENT))
            assert came
            assert [(str(a.dtype), a.shape) for a in arrays] == [(f.kind, f.shape) for f in site.manifest.arrays]
            assert [bits(x) for x in found] == [bits(x[client]) for x in expected[nth]]
    size = WireSize(SIZE)
    for part in transforms:
        size = part.wire(size)
    assert site.manifest.num_bytes == size.total + 4  # the whole number goes as it is


@pytest.mark.parametrize(
    ("transforms", "arrays", "num_bytes"),
    [
        ((), ["count", "w"], 4804),
        ((ClipNorm(),), ["count", "w"], 4804),
        ((LocalNoise(),), ["count", "w"], 4804),
        ((TopK(0.9),), [NUMBERS, "count"], 4804),  # with places it would be longer
        ((TopK(0.3), Int8()), [NUMBERS, "changes/scales", "count"], 1216),
        ((Int8(), TopK(0.1)), [NUMBERS, PLACES, "count"], 964),  # whole again with what was owed
        ((TopK(0.1), HalfPrecision(), ClipNorm()), [NUMBERS, PLACES, "count"], 724),
    ],
    ids=repr,
)
def test_the_form_on_the_wire(transforms, arrays, num_bytes):
    manifest = SitePart(transforms, ONE).manifest
    assert [form.name for form in manifest.arrays] == arrays
    assert manifest.num_bytes == num_bytes


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([0, 1, SIZE], "changes number 1200, and the last is 1199"),
        ([0, 1, 2**32 - 1], "changes number 4294967295"),
        ([0, 5, 5], "do not rise, or one is there twice"),
        ([5, 4, 9], "do not rise"),
    ],
)
def test_places_that_are_none_are_refused(places, said):
    site = SitePart((TopK(3 / SIZE),), ONE)
    arrays = {NUMBERS: np.ones(3, np.float32), PLACES: np.uint32(places), "count": np.int32(0)}
    with pytest.raises(Refused, match=said) as refused:
        site.read(arrays, jax.tree.leaves(SENT))
    assert refused.value.code == "schema"


def test_noise_of_a_site_follows_from_no_seed_and_is_as_large_as_it_says():
    zero = np.zeros(4000, np.float32)
    site = SitePart((LocalNoise(noise_multiplier=2.0, max_norm=0.5),), zero)
    assert site.secret
    assert site.manifest == Manifest.of(zero)
    sent = [site.send(site.begin(), zero, zero, jax.random.key(0), client=0)[0][0] for _ in range(2)]
    assert np.corrcoef(*sent)[0, 1] < 0.1  # of one key, twice
    assert stats.kstest(np.concatenate(sent), stats.norm(0, 1.0).cdf).pvalue > 1e-4
    assert stats.chi2(8000).sf(float(np.sum(np.square(sent, dtype=np.float64)))) > 1e-4
    moved, came, _ = site.send(site.begin(), zero + 1, zero, jax.random.key(0), client=0)
    assert came
    assert abs(moved[0].mean() - 0.5 / np.sqrt(4000)) < 5 / np.sqrt(4000)  # cut to a length of 0.5
    assert not site.send(site.begin(), zero + np.nan, zero, jax.random.key(0), client=0)[1]
