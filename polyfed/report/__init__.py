"""The report on a run: what federation was worth to every client, in words first."""

from polyfed.report.page import write_report
from polyfed.report.summary import summary

__all__ = ["summary", "write_report"]
