import itertools
import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from polyfed.exchange.secure_sum.secret_sharing import PRIME, secret_of, shares_of

SECRET = bytes(range(32))


def test_the_modulus_is_a_prime_above_every_secret():
    """Miller and Rabin with the first primes: a composite of no special form passes with a chance below 4^-15."""
    assert PRIME > 2**256
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47):
        x = pow(base, odd, PRIME)
        assert x == 1 or any(pow(x, 2**k, PRIME) == PRIME - 1 for k in range(twos))


def test_any_of_enough_tell_the_secret():
    shares = shares_of(SECRET, threshold=3, num_shares=5)
    for places in itertools.permutations(range(1, 6), 3):
        assert secret_of({x: shares[x - 1] for x in places}) == SECRET
    assert secret_of({x: shares[x - 1] for x in range(1, 6)}) == SECRET


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.integers(0, 12))
def test_every_secret_comes_back(secret, threshold, more):
    shares = shares_of(secret, threshold, threshold + more)
    assert secret_of({x: shares[x - 1] for x in range(more + 1, more + threshold + 1)}) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32], ids=["least", "largest"])
def test_the_ends_of_the_range(secret):
    shares = shares_of(secret, 2, 2)
    assert secret_of({1: shares[0], 2: shares[1]}) == secret


def test_too_few_tell_nothing():
    """Whatever the secret, a share is as if drawn by chance, and one fewer than enough fit every other secret too."""
    lowest = [shares_of(secret, 2, 2)[0][0] for secret in (bytes(32), SECRET) for _ in range(2000)]
    for half in (lowest[:2000], lowest[2000:]):
        assert stats.chisquare(np.bincount(half, minlength=256)).pvalue > 1e-6
    shares = shares_of(SECRET, 3, 5)
    two = {1: shares[0], 2: shares[1]}
    other = int.from_bytes(secrets.token_bytes(32), "little")
    # f(3) of the one polynomial of degree 2 through f(0) = other, f(1), f(2): 3 f(2) - 3 f(1) + f(0)
    f = [other, *(int.from_bytes(two[x], "little") for x in (1, 2))]
    third = (f[0] - 3 * f[1] + 3 * f[2]) % PRIME
    assert secret_of({**two, 3: third.to_bytes(36, "little")}) == other.to_bytes(32, "little")


def test_no_two_are_shared_alike():
    assert shares_of(SECRET, 2, 3) != shares_of(SECRET, 2, 3)
    assert shares_of(SECRET, 1, 3) == [SECRET + bytes(4)] * 3  # a threshold of 1 hides nothing


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((b"short", 2, 3), "A secret of 5 bytes"),
        ((SECRET, 0, 3), "3 shares of which 0"),
        ((SECRET, 4, 3), "3 shares of which 4"),
        ((SECRET, 2, 2**16 + 1), "at most 65536 shares"),
    ],
)
def test_refuses(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        shares_of(*arguments)


def test_shares_that_do_not_belong_together():
    with pytest.raises(ValueError, match="larger than shares are"):
        secret_of({1: b"\xff" * 36})
    with pytest.raises(ValueError, match="do not belong to one secret"):
        secret_of({1: (2**256 + 1).to_bytes(36, "little")})
