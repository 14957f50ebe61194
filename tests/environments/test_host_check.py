import gymnasium
import numpy as np
import pytest

from polyfed.environments.host_check import check_host


class Flawed(gymnasium.Env):
    """Walks on a line; `flaw` breaks one promise."""

    observation_space = gymnasium.spaces.Box(-1000.0, 1000.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    made = 0

    def __init__(self, flaw="none"):
        self.flaw = flaw
        Flawed.made += 1

    def reset(self, *, seed=None, options=None):
        if self.flaw == "unrepeatable":
            seed = Flawed.made
        super().reset(seed=0 if self.flaw == "ignores seeds" else seed)
        self.at = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.at.copy(), {}

    def step(self, action):
        self.at = self.at + np.float32(self.np_random.normal() if self.flaw != "ignores seeds" else 1)
        if self.flaw == "raises":
            raise KeyError("wheel")
        seen = {"infinite": np.array([np.nan], np.float32), "outside": np.full(1, 2000, np.float32)}
        return seen.get(self.flaw, self.at.copy()), 0.0, False, False, {}


FLAWS = {
    "none": None,
    "unrepeatable": "seeding",
    "infinite": "finite numbers",
    "outside": "declared spaces",
}


@pytest.fixture(scope="module", autouse=True)
def registered():
    for flaw in (*FLAWS, "raises"):
        gymnasium.register(f"Flawed-{flaw}-v0", entry_point=Flawed, kwargs={"flaw": flaw}, max_episode_steps=50)
    yield
    for flaw in (*FLAWS, "raises"):
        del gymnasium.registry[f"Flawed-{flaw}-v0"]


@pytest.mark.parametrize(("flaw", "question"), FLAWS.items())
def test_a_broken_promise_is_found(flaw, question):
    found = {finding.question: finding for finding in check_host(f"Flawed-{flaw}-v0")}
    broken = [name for name, finding in found.items() if finding.needed and not finding.good]
    assert broken == [] if question is None else question in broken
    assert found["time limit"].answer == "50 steps"


def test_one_that_cannot_be_walked_through_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="failed within 300 random steps with KeyError: 'wheel'"):
        check_host("Flawed-raises-v0")


def test_a_body_is_told_with_its_quantities_and_that_copies_lose_its_state():
    found = {finding.question: finding for finding in check_host("Hopper-v5")}
    assert found["named quantities"].good
    assert "friction" in found["named quantities"].answer
    assert not found["copy"].good
    assert not found["copy"].needed
    assert all(finding.good for finding in found.values() if finding.needed)
    assert "steps/s" in found["step rate"].answer


def test_an_id_of_a_family_of_ours_has_the_familys_quantities():
    found = {finding.question: finding for finding in check_host("CartPole-v1")}
    assert "half_length" in found["named quantities"].answer
