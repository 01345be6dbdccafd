"""One run: its directory, its training, its trained model."""

from mambarec.base import start  # noqa: F401  before anything else loads torch
