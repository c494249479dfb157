"""A run that is told to end by a signal ends as after Ctrl-C: it says so in status.json and keeps what it has finished.

Terminated   what is raised where the run is; a KeyboardInterrupt, so that whoever handles Ctrl-C handles it too
heeding      context manager in which the signals SIGTERM and SIGHUP raise it
"""

import signal
import threading
from contextlib import contextmanager

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """A signal has told the process to end; `exit_code` is 128 + its number, as shells and schedulers expect (SIGTERM: 143)."""

    def __init__(self, number):
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextmanager
def heeding():
    """The first SIGTERM or SIGHUP raises Terminated; further ones are passed over, so that the run can write down where it stopped.

    A signal that somebody else handles or ignores (nohup) is left as it is. Outside the main thread nothing is changed.
    """
    told = []

    def end(number, frame):
        if not told:
            told.append(number)
            raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    changed = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
