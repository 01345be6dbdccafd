"""How the process gets its memory from the system: glibc's allocator, told to keep what is freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)


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


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") else None
