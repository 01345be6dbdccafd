"""How the process gets its memory from the system, glibc's allocator told to keep what is freed, and how much that was."""

import ctypes
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)
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


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") else None
