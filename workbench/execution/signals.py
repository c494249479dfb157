"""A run that a signal ends, ends as after Ctrl-C: it writes so to status.json and keeps its finished results.

Terminated   raised in the run; a KeyboardInterrupt, so that code that handles Ctrl-C handles it too
heeding      context manager in which the signals SIGTERM and SIGHUP raise it
heard        context manager inside it: what a library made of that exception, or of Ctrl-C's, is the exception again
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_received: list[int] = []  # signals of the process since it heeds them


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

    def end(number: int, frame: FrameType | None) -> None:
        if not _received:
            _received.append(number)
            raise Terminated(number)

    def interrupt(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    new = {number: end for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        new[signal.SIGINT] = interrupt
    before = {number: signal.signal(number, handler) for number, handler in new.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _received.clear()


@contextmanager
def heard() -> Iterator[None]:
    """An error after a signal is the signal's: safetensors, for one, makes a ValueError of what is raised while it reads."""
    try:
        yield
    except Exception as error:
        if not _received:
            raise
        raise KeyboardInterrupt if _received[0] == signal.SIGINT else Terminated(_received[0]) from error
