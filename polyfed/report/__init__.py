"""The report on a run: what federation was worth to every client, in words first."""

from polyfed.report.page import write_report

__all__ = ["write_report"]
