"""Masks and the keys that they come from."""

import ast
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("cryptography")

import polyfed.exchange.secure_sum as package
from polyfed.exchange.secure_sum import ciphers, masks
from polyfed.exchange.secure_sum.key_agreement import KeyPair, pair_key

CONTEXT = bytes(range(32))


def test_masks_of_all_pairs_vanish_from_the_sum():
    seeds = {(i, j): bytes([i, j] * 16) for i in range(4) for j in range(i)}
    seed_of = lambda i, j: seeds[max(i, j), min(i, j)]  # noqa: E731
    total = sum(masks.pair_mask(i, {j: seed_of(i, j) for j in range(4) if j != i}, 50) for i in range(4))
    assert total.dtype == np.uint32
    assert not total.any()


def test_a_mask_is_even():
    bytes_ = np.frombuffer(masks.mask(b"\x01" * 32, 100_000).tobytes(), np.uint8)
    assert stats.chisquare(np.bincount(bytes_, minlength=256)).pvalue > 1e-6


def test_both_of_a_pair_have_one_key_and_nobody_else_for_nothing_else():
    ann, bob, cy = KeyPair.new(), KeyPair.new(), KeyPair.new()
    key = pair_key(ann.private, bob.public, CONTEXT, "share", (0, 1))
    assert len(key) == 32
    assert pair_key(bob.private, ann.public, CONTEXT, "share", (0, 1)) == key
    others = [
        pair_key(ann.private, bob.public, CONTEXT, "share", (1, 0)),
        pair_key(ann.private, bob.public, CONTEXT, "mask", (0, 1)),
        pair_key(ann.private, bob.public, bytes(32), "share", (0, 1)),
        pair_key(cy.private, bob.public, CONTEXT, "share", (0, 1)),
        pair_key(ann.private, cy.public, CONTEXT, "share", (0, 1)),
    ]
    assert len({key, *others}) == 6


def test_every_seed_has_256_bits(monkeypatch):
    """A mask whose seed has 32 bits is found by trying all of them: 2^32 is a matter of minutes."""
    assert ciphers.KEY_BYTES == 32
    for length in (4, 16, 31):
        with pytest.raises(ValueError):
            masks.mask(bytes(length), 3)


def test_nothing_draws_from_a_generator_that_can_be_foretold():
    """Neither `random` nor NumPy's nor JAX's generators anywhere in the package: chance comes from the system."""
    files = sorted(Path(package.__file__).parent.glob("*.py"))
    assert len(files) > 8
    drawn = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not {"random", "numpy.random", "jax.random"} & {alias.name for alias in node.names}, file
            if isinstance(node, ast.ImportFrom):
                assert "random" not in (node.module or "").split("."), file
                assert "random" not in {alias.name for alias in node.names}, file
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("random", "PRNGKey", "RandomState", "default_rng"), file
                if isinstance(node.value, ast.Name) and node.value.id == "secrets":
                    drawn.add(node.attr)
    assert drawn == {"token_bytes", "randbelow"}
