"""Memory that tensors have freed: small ones often, so it is kept in the process; large ones seldom, so it is handed back.

keep_freed_memory     while a run works
give_back_much        after a model was loaded and after each result
"""

import ctypes
import sys
from contextlib import suppress

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # malloc.h
MUCH = 2**30  # bytes: what a UNet of Stable Diffusion's size frees between two evaluations is less


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


class _Mallinfo2(ctypes.Structure):
    """Of malloc.h; `fordblks` is what is free in the heap."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def give_back_much(least: int = MUCH) -> None:
    """On Linux with glibc, hand freed memory back to the system when there is much of it, in bytes; elsewhere nothing happens.

    Loading Stable Diffusion 1.4 frees 1.8 GB that nothing asks for again, training it some 10 GB (docs/results/full-size.md).
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallinfo2.restype = _Mallinfo2
        if libc.mallinfo2().fordblks >= least:
            libc.malloc_trim(0)
