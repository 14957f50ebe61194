"""Secure aggregation: the server learns the sum of what clients send, and nothing else (Bonawitz et al. 2017).

Who is trusted. Without identities the server is honest but curious: it follows the protocol, may read all that passes
through it and may be told what fewer clients than the threshold know; but it could make up clients' keys, or tell one
client another story of who is left than the next. With identities, public keys of clients that all clients know by
other means, keys are signed, and before anything is unmasked the threshold of clients sign who is left, so that such a
server gets no answer; with a threshold above two thirds, up to a third of the clients may be in league with it.

What is not promised: a client can spoil a sum by what it puts into it; the sum itself may tell something of a client,
against which clipping and noise help; clients that stay silent can end a round; memory is not wiped of old keys.

References: bonawitz2017secure, shamir1979share.
"""

from polyfed.exchange.secure_sum.transform import SecureSum

__all__ = ["SecureSum"]
