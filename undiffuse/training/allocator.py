"""Keep freed memory in the process while training on a CPU.

glibc gives large blocks back to the system at every step and asks for them again at the next one:
for a small U-Net that is some 18,000 page faults, a seventh of the step. With higher thresholds the
blocks stay. Other systems have other allocators, and there nothing is done.
"""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD


def keep_memory() -> bool:
    """Raise glibc's thresholds to 1 GiB (mmap) and 2 GiB (trim); whether that was done."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    trim = libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)  # of use where the other is refused, too
    return bool(libc.mallopt(MMAP_THRESHOLD, 2**30) and trim)
