"""How the process gets its memory from the system, glibc's allocator told to keep what is freed, and how much that was."""

import ctypes
import sys
from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)
_GROUP = Path("/sys/fs/cgroup")  # in a container: its control group, with memory.max where it has a limit
_CLEAR_REFS = Path("/proc/self/clear_refs")  # Linux: 5 written here resets the process's peak of resident memory


def keep_freed_memory() -> None:
    """Let freed blocks be used again, however large; without effect where the allocator is not glibc's.

    By default glibc returns blocks above 32 MB to the system at once, and each training step gets its gradients of the raw
    features anew, as pages that the system clears one by one: a fifth of the step.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """The opposite, near to what glibc does by itself; benchmarks measure other forms as they would run alone."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_MMAP_MAX, 65536)
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)


def release_freed_memory() -> None:
    """Return what is free to the system, so that a run does not seem to use what an earlier one did."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def reset_process_peak() -> None:
    """Let process_peak_mb count anew, without what is free; without effect where the system cannot."""
    if _CLEAR_REFS.exists():
        release_freed_memory()
        _CLEAR_REFS.write_text("5")


def process_peak_mb() -> float | None:
    """The most resident memory, MB, since the start or the last reset; None where the system does not tell."""
    if _CLEAR_REFS.exists():
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def total_memory() -> int:
    """Bytes of the machine, or of the control group that a container gives its processes."""
    return min(psutil.virtual_memory().total, _group_limit() or sys.maxsize)


def free_memory() -> int:
    """Bytes that processes can still take, of the machine or of the control group."""
    available = psutil.virtual_memory().available
    if (limit := _group_limit()) is None:
        return available
    cache = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())["inactive_file"]
    used = int((_GROUP / "memory.current").read_text()) - int(cache)
    return min(available, limit - used)


def _group_limit() -> int | None:
    path = _GROUP / "memory.max"
    limit = path.read_text().strip() if path.exists() else "max"
    return int(limit) if limit.isdigit() else None


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") else None
