"""Settings of the whole process, which only a program may make, never a library."""

from __future__ import annotations

import ctypes
import sys

_SETTINGS = {
    -1: 2**30,  # M_TRIM_THRESHOLD: free memory at the end of the heap that is kept
    -3: 2**25,  # M_MMAP_THRESHOLD, at its maximum: smaller blocks come from the heap
}


def keep_freed_memory() -> None:
    """Ask glibc not to return freed memory to the system.

    Every update of a model allocates and frees the same megabytes; giving their pages back and
    faulting them in again costs a quarter of the time. Elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has no mallopt
        return
    for parameter, value in _SETTINGS.items():
        mallopt(ctypes.c_int(parameter), ctypes.c_int(value))
