"""Many runs: grids, searches, comparisons, and where their trials run."""

from mambarec.base import start  # noqa: F401  before anything else loads torch
