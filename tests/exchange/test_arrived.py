"""A transform whose way up is over acts on the way back alone."""

import jax
import numpy as np

from polyfed.exchange import SecureSum, Transform, WireSize
from polyfed.exchange.arrived import Arrived
from polyfed.types import Update


class Halves(Transform):
    """Doubles on the way up, halves on the way back, and counts."""

    def init(self, payload, num_clients):
        return num_clients

    def upload(self, state, update, broadcast, key):
        return Update(2 * update.payload, update.weight), state + 1

    def receive(self, state, merged):
        return merged / 2, state + 10


def test_messages_pass_as_they_came():
    update = Update(np.full((2, 3), 9.0, np.float32), np.ones(2, np.float32))
    found, state = Arrived(Halves()).upload(5, update, np.zeros(3, np.float32), jax.random.key(0))
    assert found is update
    assert state == 5


def test_the_way_back_is_the_transforms_own():
    part = Arrived(Halves())
    assert part.init(np.zeros(3), 2) == 2
    merged, state = part.receive(5, np.ones(3))
    assert (merged.tolist(), state) == ([0.5, 0.5, 0.5], 15)


def test_so_are_its_bytes_and_its_checks():
    part, size = Arrived(SecureSum()), WireSize(100, clients=3)
    assert part.wire(size) == SecureSum().wire(size)
    assert part.relayed(size) == SecureSum().relayed(size)
    part.check()
    part.check_clients(3)
