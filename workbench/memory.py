"""Keep freed memory in the process instead of handing it back to the system after every tensor."""

import ctypes
import sys
from contextlib import suppress

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> None:
    """On Linux with glibc, serve large tensors from the heap; elsewhere nothing happens.

    A UNet on the CPU allocates and frees the same megabytes hundreds of times a second; by default each goes through the
    kernel (docs/decisions/0005).
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, 2**26)
