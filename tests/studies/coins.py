"""How often coins fall on heads, for the tests."""

import equinox as eqx
import numpy as np

from polyfed.checks import whole_in_range
from polyfed.study import Curves, Findings, Line, Study, Table, Value


class Coins(Study):
    """How often coins fall on heads."""

    throws: int = eqx.field(default=100, static=True)  # per seed, 1 to 10^6
    biases: tuple[float, ...] = eqx.field(default=(0.5, 0.9), static=True)  # 0 to 1

    def check(self):
        whole_in_range("throws", self.throws, 1, 10**6)

    def answer(self, seeds, watch):
        rows, lines = [], []
        for i, bias in enumerate(self.biases):
            heads = np.stack([np.random.default_rng(seed).random(self.throws) < bias for seed in seeds])
            rows.append((f"{bias:g}", Value.interval(heads.mean(1)), Value.mean(heads.mean(1)), Value(bias * 1e-9)))
            x = np.arange(1, self.throws + 1)
            lines.append(Line.over(f"bias {bias:g}", x, np.abs(heads.cumsum(1) / x - bias)))
            watch(f"bias {bias:g}", (i + 1) / len(self.biases))
        curves = [
            Curves(f"share-{kind}", "Distance <&>", "throws", tuple(lines), "Goes down.", log_x=log, log_y=log)
            for kind, log in (("log", True), ("plain", False))
        ]
        table = Table("Heads & tails", ("Bias", "Share", "with error", "tiny"), tuple(rows), "Share of heads.")
        return Findings(
            (f"Coins fell <as> they should in {self.throws} throws.", "The second sentence."),
            (table, Table("Empty", ("a", "b"), ())),
            (*curves, Curves("nothing", "Nothing", "x", ())),
            (("throws", str(self.throws)),),
            ("All of it is ours.",),
        )


STUDY = Coins(name="coins")
