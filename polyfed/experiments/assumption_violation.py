"""FedRQ where the agents' neighbour sets differ: known union against own sets, by the share that is missing.

That the sets agree is Assumption 1 of FedRQ (Hwang and Hong 2025, `hwang2025fedrq`); how it is violated, and what is
measured, is ours.
"""

from polyfed.studies.differing_neighbours import DifferingNeighbours

STUDY = DifferingNeighbours(name="assumption-violation")
