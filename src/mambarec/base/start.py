"""What is set for the process before torch is loaded, and torch."""

import gc
import os

from mambarec.base.memory import keep_freed_memory

# Threads of torch (GNU OpenMP) that wait for one another spin, for long by default: beside other processes, that takes the very
# processor they wait for. Before torch is loaded, make the spin short; alone on the machine it costs nothing measurable.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

keep_freed_memory()

# What torch makes as it is loaded stays: to look for garbage in it, then and ever after, is a twelfth of a start.
gc.disable()
import torch  # noqa: E402, F401

gc.freeze()
gc.enable()
