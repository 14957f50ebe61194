import numpy as np
import pytest

from polyfed.membership import check_joins, first_rounds, judged, members


def test_all_are_there_unless_it_is_said():
    assert first_rounds((), 3).tolist() == [1, 1, 1]
    assert members(first_rounds((), 3), np.arange(1, 4)).all()
    assert judged(first_rounds((), 3), np.arange(4)).all()
    check_joins((), 3, 10)


def test_a_client_is_judged_from_the_evaluation_before_its_first_round():
    first = first_rounds((1, 4), 2)
    assert members(first, np.arange(1, 6))[:, 1].tolist() == [False, False, False, True, True]
    assert judged(first, np.arange(6))[:, 1].tolist() == [False, False, False, True, True, True]
    assert judged(first_rounds((1, 10), 2), np.array([10])).all()  # whoever joins is judged in the end


@pytest.mark.parametrize(
    ("joins", "sentence"),
    [
        ((1, 2), "joins has 2 rounds for 3 clients"),
        ((2, 2, 3), "leaves nobody for round 1"),
        ((1, 1, 11), r"joins\[2\] = 11 is out of range: give a number from 1 to 10"),
        ((0, 1, 1), r"joins\[0\] = 0 is out of range"),
        ((1, 1, 1.5), r"joins\[2\] = 1\.5"),
    ],
)
def test_who_cannot_join_is_refused_in_one_sentence(joins, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        check_joins(joins, 3, 10)
    assert "\n" not in str(caught.value)
