"""What concerns all tests: the table of the fault campaign, printed after them."""

from tests.faults.report import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
