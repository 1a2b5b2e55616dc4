"""The doctor: examine anybody's DQN and say what is wrong with it.

from perilune import doctor
report = doctor.examine(make_patient)
"""

from perilune.doctor import examination
from perilune.doctor.examination import examine
from perilune.doctor.patient import Patient
from perilune.doctor.pytest_items import pytest_items
from perilune.doctor.report import Finding, NotRun, Report

__all__ = ["Finding", "NotRun", "Patient", "Report", "examination", "examine", "pytest_items"]
