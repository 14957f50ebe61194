from typing import ClassVar

import pytest

from polyfed.exchange import (
    TRANSFORMS,
    CentralNoise,
    ClipNorm,
    DelayMessages,
    HalfPrecision,
    Hostile,
    Int8,
    LocalNoise,
    LoseMessages,
    PartialWork,
    Quorum,
    SecureSum,
    TopK,
    Transform,
)
from polyfed.exchange.placement import DoneAtSite, acts_alone, at_server, check_secret, num_at_site
from polyfed.testing import check_transform


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ((), 0),
        ((Int8(),), 1),
        ((TopK(), HalfPrecision()), 2),
        ((TopK(), ClipNorm(), CentralNoise()), 1),
        ((ClipNorm(),), 0),  # a clip at a site that lies is none
        ((ClipNorm(), CentralNoise()), 0),
        ((LocalNoise(), Int8(), LoseMessages()), 2),
        ((PartialWork(), Int8()), 2),
        ((PartialWork(),), 0),
        ((ClipNorm(), SecureSum()), 1),
        ((PartialWork(), ClipNorm(), SecureSum()), 2),
        ((LoseMessages(), ClipNorm(), SecureSum()), 0),
        ((LoseMessages(), Int8()), 0),
        ((Hostile(), Int8()), 0),
        ((DelayMessages(), TopK()), 0),
        ((Quorum(), LocalNoise()), 0),
    ],
    ids=repr,
)
def test_where_transforms_act(transforms, expected):
    assert num_at_site(transforms) == expected
    left = at_server(transforms)
    assert len(left) == len(transforms)
    done = expected + (len(transforms) > expected and transforms[expected].sum_only)  # sites and server make a sum
    assert left[done:] == transforms[done:]
    assert all(isinstance(part, DoneAtSite) for part in left[:done])


class Undone(Transform):
    compresses: ClassVar[bool] = True

    def receive(self, state, merged):
        return merged, state


def test_what_the_server_must_undo_stays_there():
    assert [type(part).__name__ for part in TRANSFORMS if acts_alone(part)] == [
        "ClipNorm", "HalfPrecision", "Int8", "TopK", "PartialWork", "LocalNoise",
    ]  # fmt: skip
    assert num_at_site((Undone(), Int8())) == 0


def test_what_has_been_done_does_nothing():
    check_transform(DoneAtSite())


@pytest.mark.parametrize("before", [Quorum(), Hostile(), LoseMessages()], ids=repr)
def test_noise_of_a_site_cannot_stand_behind_what_the_server_does(before):
    with pytest.raises(ValueError, match=f"LocalNoise hides .* behind {type(before).__name__}, which acts there"):
        check_secret((before, LocalNoise()))
    check_secret((LocalNoise(), before))
