"""Public checks of the contracts: hand one a part of your own, it raises `AssertionError` where the part fails."""

from polyfed.testing.agent import check_agent
from polyfed.testing.compare import made_up_nested, made_up_networks, made_up_update
from polyfed.testing.environment import check_environment
from polyfed.testing.linear_program import barycenter_linear_program
from polyfed.testing.rule import check_rule
from polyfed.testing.transform import check_transform

__all__ = [
    "barycenter_linear_program",
    "check_agent",
    "check_environment",
    "check_rule",
    "check_transform",
    "made_up_nested",
    "made_up_networks",
    "made_up_update",
]
