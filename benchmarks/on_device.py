"""Where benchmarks compute: `make bench DEVICE=cuda` has all of them on a GPU that have a model.

DEVICE    the name of the device
clock     seconds, read when the device has done what it was given
"""

import os
import time

import torch

DEVICE = os.environ.get("DEVICE") or "cpu"


def clock() -> float:
    """Seconds of a clock that is only compared with itself; waits for the GPU, which works behind the program's back."""
    if torch.device(DEVICE).type == "cuda":
        torch.cuda.synchronize(DEVICE)
    return time.perf_counter()
