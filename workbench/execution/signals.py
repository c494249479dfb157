"""A run that a signal ends, ends as after Ctrl-C: it writes so to status.json and keeps its finished results.

Terminated   raised in the run; a KeyboardInterrupt, so that code that handles Ctrl-C handles it too
heeding      context manager in which the signals SIGTERM and SIGHUP raise it
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """A signal has ended the process; `exit_code` is 128 + its number, as shells and schedulers expect (SIGTERM: 143)."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextmanager
def heeding() -> Iterator[None]:
    """The first SIGTERM or SIGHUP raises Terminated; further ones are ignored, so that the run can write where it stopped.

    A signal that already has a handler or is ignored (nohup) is left as it is. Outside the main thread nothing is changed.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        if not received:
            received.append(number)
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
