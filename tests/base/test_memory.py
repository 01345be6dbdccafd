"""Freed memory stays with the process until it is released."""

import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
SCRIPT = """
import resource, sys
sys.path.insert(0, {src!r})
from mambarec.base.memory import keep_freed_memory, release_freed_memory
import numpy as np

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

keep_freed_memory()
np.ones(2**26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**26, np.uint8)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = resident()
release_freed_memory()
print(faults, held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_a_large_block_is_used_again_and_goes_back_when_asked():
    output = subprocess.run([sys.executable, "-c", SCRIPT.format(src=str(SRC))], capture_output=True, text=True, check=True)
    faults, released = map(int, output.stdout.split())
    assert faults < 1000  # 64 MB taken anew are 16,384 pages
    assert released > 60
