"""What a run's figures can depend on beside its settings: versions, machine, data; and how much memory it took."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from mambarec.base.extras import installed_version
from mambarec.base.memory import process_peak_mb, reset_process_peak
from mambarec.base.places import PACKAGE, version
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset


def reset_peak_memory(device: torch.device) -> None:
    """Let the peak be this run's, not that of an earlier one in the same process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_process_peak()


def peak_memory_mb(device: torch.device) -> float | None:
    """Of the GPU where there is one, else of the process; None where the system does not tell."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else process_peak_mb()


def environment(config: Config, dataset: RecDataset) -> dict[str, Any]:
    """What a figure can depend on beside the configuration."""
    device = config["device"]
    return {
        "mambarec": version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "faiss": installed_version("faiss-cpu"),
        "git": git_commit(),
        "machine": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "data": dataset.fingerprint,
        "data_files": dict(dataset.digests),
        "graphs": dataset.graphs_of(config),
        "feature_widths": dataset.feature_widths() if dataset.modalities else {},
        "command": sys.argv,
    }


def _processor() -> str:
    """The name of the processor, such as 'Intel(R) Xeon(R) Processor @ 2.10GHz'; its kind where the system has no name."""
    cpus = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", cpus.read_text(errors="replace"), re.MULTILINE) if cpus.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit this code was run from, '-dirty' with changes; None outside a checkout or without git."""
    if not shutil.which("git"):
        return None
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=PACKAGE, capture_output=True, text=True, check=False)
    return git.stdout.strip() or None
