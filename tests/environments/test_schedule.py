import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.environments import (
    CartPole,
    Dataset,
    Digits,
    Drift,
    Drifts,
    EqualSplit,
    Explicit,
    Grid,
    RandomMDPs,
    TabularMDP,
)
from polyfed.environments.schedule import Change, check_schedule, each_station, moved
from polyfed.record import from_data, to_data

POLES = Explicit({"half_length": (0.25, 0.5)})
NOW = {"half_length": np.array([0.25, 0.5]), "force": np.array([10.0, 10.0])}


def naive(drift, value, end, round_):
    """Equal steps, one after another."""
    for now in range(1, round_ + 1):
        if drift.first <= now < drift.first + drift.rounds:
            value = value + (end - value) / (drift.first + drift.rounds - now)
    return value


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 60), st.floats(0.1, 2.0))
def test_a_drift_goes_in_equal_steps_and_arrives(first, rounds, round_, end):
    drift = Drift(to={"half_length": end}, first=first, rounds=rounds, clients=(1,))
    found = drift.worlds(NOW, round_)
    np.testing.assert_allclose(found["half_length"], [0.25, naive(drift, 0.5, end, round_)], rtol=1e-9)
    np.testing.assert_array_equal(found["force"], NOW["force"])
    if round_ >= first + rounds - 1:
        assert found["half_length"][1] == end  # to the last bit


def test_one_value_for_each_client_whose_world_moves():
    drift = Drift(to={"force": (5.0, 20.0)}, factors={"half_length": (2.0, 4.0)})
    found = drift.worlds(NOW, 1)
    assert found["force"].tolist() == [5.0, 20.0]
    assert found["half_length"].tolist() == [0.5, 2.0]
    assert NOW["half_length"].tolist() == [0.25, 0.5]  # what was given is left alone


def test_nothing_moves_unless_it_is_said():
    for schedule in (Drift(), Drifts(), Drift(first=5, rounds=3)):
        assert schedule.stations == ()
        assert schedule.changes(3) == []
        assert schedule.worlds(NOW, 9)["half_length"].tolist() == [0.25, 0.5]
        check_schedule(schedule, TabularMDP(), RandomMDPs(), 2, 10)


def test_drifts_follow_each_other_from_where_the_last_one_led():
    both = Drifts((Drift(factors={"force": 2.0}, first=3), Drift(factors={"force": 0.5}, first=5, rounds=2)))
    assert [both.worlds(NOW, r)["force"][0] for r in range(2, 8)] == [10.0, 20.0, 20.0, 15.0, 10.0, 10.0]
    assert both.stations == (2, 3, 4, 6)
    assert both.names == ("force",)
    assert [moved(both, 2, r).any() for r in range(2, 8)] == [False, True, False, True, True, False]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20))
def test_between_stations_worlds_go_in_straight_lines(round_):
    """So a course through the stations says what the schedule does."""
    first, second = (
        Drift({"force": 20.0}, first=3, rounds=10, clients=(0,)),
        Drift({"force": 5.0}, first=8, clients=(1,)),
    )
    both = Drifts((first, second))
    stations = each_station(both, CartPole(), POLES, 2)
    rounds = np.array(list(stations))
    for client in range(2):
        values = [worlds["force"][client] for worlds in stations.values()]
        wanted = both.worlds(each_station(both, CartPole(), POLES, 2)[2], round_)["force"][client]
        np.testing.assert_allclose(np.interp(round_, rounds, values), wanted, rtol=1e-9)


def test_what_happens_is_told_in_order():
    both = Drifts(
        (Drift(factors={"force": 2.0}, first=7, rounds=3), Drift(to={"half_length": (1.0,)}, first=5, clients=(1,)))
    )
    assert both.changes(2) == [
        Change(5, 5, (1,), "half_length becomes 1.0"),
        Change(7, 9, (0, 1), "force is multiplied by 2.0"),
    ]


@pytest.mark.parametrize("schedule", [Drift(), Drift(to={"force": 5.0}, factors={"gravity": (1.0, 2.0)}, first=3)])
def test_a_record_reads_back(schedule):
    assert from_data(to_data(schedule)) == schedule
    assert from_data(to_data(Drifts((schedule,)))) == Drifts((schedule,))
    assert hash(from_data(to_data(schedule))) == hash(schedule)


REFUSALS = [
    (Drift({"half_lenght": 1.0}), "CartPole has no quantity 'half_lenght': did you mean 'half_length'"),
    (Drift({"half_length": -1.0}), r"half_length.*-1.*Change it in Drift\."),
    (Drift(factors={"half_length": 0.0}), r"half_length.*Change it in Drift\."),
    (Drift({"force": 5.0}, first=11), r"schedule\.first = 11 rounds is out of range.*to 10"),
    (Drift({"force": 5.0}, first=0), r"schedule\.first = 0"),
    (Drift({"force": 5.0}, first=8, rounds=4), r"schedule\.rounds = 4 rounds is out of range.*to 3"),
    (Drift({"force": 5.0}, clients=(2,)), r"schedule\.clients = 2 is out of range"),
    (Drift({"force": 5.0}, clients=(1, 1)), "names a client twice"),
    (Drift({"force": (5.0, 6.0, 7.0)}), "gives 3 values of force to the worlds of 2 clients"),
    (Drift({"force": 5.0}, factors={"force": 2.0}), "gives force twice"),
    (Drifts((Drift({"force": 5.0}, rounds=5), Drift({"force": 6.0}, first=3))), "moves force of client 0 in round 3"),
    (Drifts((Drift({"force": float("nan")}),)), r"force.*Change it in Drifts\."),
]


@pytest.mark.parametrize(("schedule", "sentence"), REFUSALS, ids=range(len(REFUSALS)))
def test_what_cannot_happen_is_refused_in_one_sentence(schedule, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        check_schedule(schedule, CartPole(), POLES, 2, 10)
    assert "\n" not in str(caught.value)


def test_worlds_that_no_quantity_tells_apart_are_refused():
    with pytest.raises(ValueError, match="Drift moves quantities, but RandomMDPs makes worlds of another kind"):
        check_schedule(Drift({"force": 5.0}), TabularMDP(), RandomMDPs(), 2, 10)
    with pytest.raises(ValueError, match="but EqualSplit makes worlds of another kind"):
        check_schedule(Drift({"force": 5.0}), Dataset(Digits()), EqualSplit(), 2, 10)


def test_drifts_of_the_same_clients_may_follow_and_of_others_overlap():
    parts = Drift({"force": 5.0}, rounds=5, clients=(0,)), Drift({"force": 6.0}, first=3, clients=(1,))
    check_schedule(Drifts(parts), CartPole(), Grid({"half_length": (0.3, 0.6)}), 2, 10)
    check_schedule(Drifts((parts[0], Drift({"force": 6.0}, first=6))), CartPole(), POLES, 2, 10)
