"""Examine any DQN and report what is wrong with it."""

from perilune.doctor.examination import check_agent, pytest_items
from perilune.doctor.protocol import AgentAdapter
from perilune.doctor.report import Finding, NotRun, Passed, Report

__all__ = ["AgentAdapter", "Finding", "NotRun", "Passed", "Report", "check_agent", "pytest_items"]
