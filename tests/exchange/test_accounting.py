"""Epsilon against the reference accountants, closed forms and the numbers that others measured."""

import math
import sys

import numpy as np
import pytest
from scipy.stats import norm

from polyfed.errors import MissingExtraError
from polyfed.exchange.accounting import affordable, gaussian_delta, gaussian_epsilon, spent

CASES = [(6.4, 100, 1e-5), (1.0, 1, 1e-6), (4.0, 20, 1e-5), (20.0, 30, 1e-3)]


@pytest.fixture(scope="module")
def reference():
    return pytest.importorskip("dp_accounting", reason='pip install "polyfed[privacy]"')


@pytest.mark.parametrize(("noise", "releases", "delta"), CASES)
def test_equals_the_reference_accountants(reference, noise, releases, delta):
    """The three of dp-accounting, each composed step by step."""
    for name, made in (("rdp", reference.rdp.RdpAccountant), ("pld", reference.pld.PLDAccountant)):
        accountant = made()
        accountant.compose(reference.GaussianDpEvent(noise), releases)
        assert spent(noise, releases, delta, name) == pytest.approx(accountant.get_epsilon(delta), abs=1e-6)
    exact = reference.get_epsilon_gaussian(noise / math.sqrt(releases), delta)
    assert spent(noise, releases, delta) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(("noise", "releases", "delta"), CASES)
def test_the_bounds_lie_above_the_exact_one(reference, noise, releases, delta):
    exact, pld, rdp = (spent(noise, releases, delta, name) for name in ("exact", "pld", "rdp"))
    assert exact - 1e-6 <= pld <= rdp


def test_equals_the_reference_where_clients_are_sampled(reference):
    event = reference.PoissonSampledDpEvent(0.1, reference.GaussianDpEvent(1.0))
    expected = reference.rdp.RdpAccountant().compose(event, 50).get_epsilon(1e-5)
    assert spent(1.0, 50, 1e-5, "rdp", sampling=0.1) == pytest.approx(expected, abs=1e-6)
    assert spent(1.0, 50, 1e-5, "rdp", sampling=0.1) < spent(1.0, 50, 1e-5, "rdp") / 5


def test_the_number_that_was_measured_before(reference):
    """Epsilon 8 at delta 1e-5 after 100 rounds of all clients takes 6.4 times the clip, by RDP; exactly, less."""
    assert spent(6.4, 100, 1e-5, "rdp") == pytest.approx(8.0, abs=0.05)
    assert spent(6.4, 100, 1e-5) < 7.41


@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0, 10.0, 300.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.1])
def test_delta_and_epsilon_are_each_others_inverse(mu, delta):
    epsilon = gaussian_epsilon(mu, delta)
    assert epsilon >= 0
    if epsilon:
        assert gaussian_delta(epsilon, mu) == pytest.approx(delta, rel=1e-6)
    else:
        assert gaussian_delta(0.0, mu) <= delta


def test_delta_is_the_integral_of_what_stands_out():
    """`max(p - e^epsilon q, 0)` over two normal densities, a distance of mu apart."""
    x = np.linspace(-15, 20, 400_001)
    for mu, epsilon in ((0.5, 0.3), (2.0, 1.0)):
        out = np.maximum(norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x), 0)
        assert gaussian_delta(epsilon, mu) == pytest.approx(np.trapezoid(out, x), rel=1e-6)


def test_more_noise_costs_less_and_more_rounds_cost_more():
    assert spent(2.0, 10, 1e-5) < spent(1.0, 10, 1e-5) < spent(1.0, 11, 1e-5)
    assert spent(1.0, 40, 1e-5) == pytest.approx(spent(0.5, 10, 1e-5), abs=1e-9)


def test_nothing_released_is_nothing_spent_and_no_noise_hides_nothing():
    assert spent(1.0, 0, 1e-5) == 0.0
    assert spent(0.0, 1, 1e-5) == math.inf
    assert spent(0.0, 0, 1e-5) == 0.0


@pytest.mark.parametrize("accountant", ["exact", "rdp"])
def test_affordable_is_the_last_that_stays_within(accountant, request):
    if accountant != "exact":
        request.getfixturevalue("reference")
    for epsilon in (0.5, 2.0, 9.0):
        most = affordable(5.0, epsilon, 1e-5, 1000, accountant)
        assert spent(5.0, most, 1e-5, accountant) <= epsilon
        assert most == 1000 or spent(5.0, most + 1, 1e-5, accountant) > epsilon
    assert affordable(0.0, 100.0, 1e-5, 10) == 0
    assert affordable(1e9, 1.0, 1e-5, 10) == 10


def test_without_the_extra_a_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(MissingExtraError, match=r'pip install "polyfed\[privacy\]", or use accountant = "exact"\.'):
        spent(1.25, 7, 1e-5, "rdp")
    assert spent(1.25, 7, 1e-5) > 0


def test_refuses_what_it_cannot_account(reference):
    with pytest.raises(ValueError, match=r'"exact" knows no sampling, .* probability 0\.5: use "pld"'):
        spent(1.0, 1, 1e-5, "exact", sampling=0.5)
    with pytest.raises(ValueError, match=r'"pld" is for an epsilon up to 50, .* use "exact" or "rdp"'):
        spent(0.1, 100, 1e-5, "pld")
    with pytest.raises(ValueError, match="accountant = 'moments' is not known"):
        spent(1.0, 1, 1e-5, "moments")
    with pytest.raises(ValueError, match="delta = 0 is out of range"):
        spent(1.0, 1, 0.0)
