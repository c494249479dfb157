"""What freed memory does to a process: kept where little is free, handed back where much is. In a process of its own."""

import subprocess
import sys

import pytest

CODE = """
import psutil, torch
from workbench.memory import give_back_much, keep_freed_memory

def held():
    return psutil.Process().memory_info().rss / 2**20

keep_freed_memory()
before = held()
blocks, above = [torch.ones(2**20) for _ in range(100)], torch.ones(2**10)
full = held()
del blocks
kept = held()
give_back_much()
little = held()
give_back_much(2**28)
print(full - before, kept - before, little - before, held() - before, float(above.sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap is what is looked at")
def test_freed_memory_is_kept_until_there_is_much_of_it():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    full, kept, little, at_last, above = map(float, done.stdout.split())
    assert full > 380 and kept > 380 and little > 380 and at_last < 100 and above == 2**10
