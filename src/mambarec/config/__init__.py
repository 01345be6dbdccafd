"""The configuration of a run."""

from mambarec.base import start  # noqa: F401  before anything else loads torch
