import numpy as np
import pytest

from polyfed.environments.live_worlds import NEVER, TOLD, TRACE, first_rows


def row(values, seed, trace, action, following, after, time):
    """One row of `advance`."""
    numbers, own, new = (np.float32(x).view(np.uint32) for x in ([action], values, following))
    return np.concatenate([own, np.uint32([seed]), trace, numbers, new, np.uint32([after, time])])[None]


class Walker:
    """Follows one episode after another, as a compiled program does."""

    def __init__(self, worlds, values=(0.5,), seed=3, limit=500):
        self.worlds, self.values, self.following, self.seed = worlds, values, values, seed
        self.trace, self.time, self.past = np.zeros(TRACE, np.uint32), 0, np.zeros((1, limit, 1), np.float32)
        self.seen = worlds.begin(first_rows([values], [seed])).view(np.float32)[0]

    def row(self, action, after=NEVER):
        return row(self.values, self.seed, self.trace, action, self.following, after, self.time)

    def step(self, action, after=NEVER):
        size = self.worlds.size
        answer = self.worlds.advance(self.row(action, after), self.past)[0]
        real, told = answer.view(np.float32), answer[size : size + TOLD]
        self.past[0, self.time] = action
        self.trace, self.time, over = told[3:], self.time + 1, bool(told[1] or told[2])
        self.seen = real[size + TOLD :] if over and after != NEVER else real[:size]
        if over and after != NEVER:
            self.seed, self.trace, self.time = after, np.zeros(TRACE, np.uint32), 0
            self.values = self.following
        return real[:size], real[size], bool(told[1]), bool(told[2])


@pytest.fixture(scope="session")
def walker_in():
    """Stands in live worlds: `walker_in(worlds, values, seed, limit)`."""
    return Walker
