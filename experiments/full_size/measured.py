"""Commands as processes of their own, with the memory they take; and the memory of a part of this process.

Process     run a command, resident memory looked at twice a second
watching    the most anonymous memory of this process while a block runs

Resident memory counts pages of mapped files, which the system drops when it needs them; anonymous memory does not.
"""

import os
import re
import subprocess
import threading
import time
from contextlib import contextmanager

import psutil

EVERY, OFTEN = 0.5, 0.02  # seconds
NODE = re.compile(r"^(\S+) \d+/\d+ \d+\.\d s$")


class Finished:
    """Notes from the log of a run which nodes have finished since it was read last."""

    def __init__(self, path):
        self.path = path
        self.at = path.stat().st_size if path.exists() else 0

    def read(self):
        """Names of nodes, in order; each once for each of its shards."""
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8") as file:
            file.seek(self.at)
            lines = file.read()
        whole = lines[: lines.rfind("\n") + 1]
        self.at += len(whole.encode())
        return [found[1] for line in whole.splitlines() if (found := NODE.match(line))]


def run(words, log, run_log=None):
    """Run a command to its end.

    log        file that what it prints is added to;  run_log  the log of the run folder that the command works on
    returns    {seconds, exit, resident, anonymous, nodes: {node: {resident, anonymous}}}, memory in bytes: the most that was seen or,
               of the command's resident memory, what the system counted
    """
    began, finished = time.monotonic(), Finished(run_log) if run_log else None
    most, since, nodes = [0, 0], [0, 0], {}
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
        try:
            while True:
                pid, status, used = os.wait4(process.pid, os.WNOHANG)
                seen = (0, 0) if pid else _memory(process.pid)
                since = [max(pair) for pair in zip(since, seen, strict=True)]
                most = [max(pair) for pair in zip(most, seen, strict=True)]
                for node in finished.read() if finished else ():
                    known = nodes.setdefault(node, {"resident": 0, "anonymous": 0})
                    nodes[node] = {key: max(known[key], value) for key, value in zip(known, since, strict=True)}
                    since = [0, 0]
                if pid:
                    break
                time.sleep(EVERY)
        except BaseException:
            process.terminate()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    counted = used.ru_maxrss * 1024
    if counted <= 1.1 * psutil.Process().memory_info().rss:  # a new process is counted with what its parent held
        counted = 0
    return {
        "seconds": time.monotonic() - began,
        "exit": process.returncode,
        "resident": max(counted, most[0]),
        "anonymous": most[1],
        "nodes": nodes,
    }


def _memory(pid):
    """(resident, anonymous) bytes of a process and its children."""
    found = [0, 0]
    try:
        one = psutil.Process(pid)
        for process in (one, *one.children(recursive=True)):
            about = process.memory_info()
            found[0] += about.rss
            found[1] += about.rss - about.shared
    except psutil.Error:
        pass
    return found


@contextmanager
def watching():
    """Yield {before, most, after}: anonymous bytes of this process, filled in when the block ends."""
    me, found, ended = psutil.Process(), {}, threading.Event()

    def now():
        about = me.memory_info()
        return about.rss - about.shared

    def look():
        while not ended.is_set():
            found["most"] = max(found["most"], now())
            ended.wait(OFTEN)

    found["before"] = found["most"] = now()
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield found
    finally:
        ended.set()
        looking.join()
        found["after"] = now()
        found["most"] = max(found["most"], found["after"])
