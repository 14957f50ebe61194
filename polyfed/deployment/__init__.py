"""The simulated experiment over a network: the same rounds, with every client at a site of its own.

Nothing is imported here: what relays messages at a site must start quickly, without JAX.
"""
