"""The pages' line to the process that holds the lab's model (`lab_process.py`). Needs neither torch nor Streamlit.

The process starts when the first page of a run is shown (`warm_up`, where WORKBENCH_WARM is 1, as `workbench app` sets it) or when the
lab first asks. All tabs share it: it answers one request at a time.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from workbench.errors import RunError, WorkbenchError
from workbench.execution import child
from workbench.ui.run_list import State

COMMAND = [sys.executable, "-P", "-m", "workbench.ui.lab_process"]
VARIABLE = "WORKBENCH_WARM"
LOOK = 0.25  # seconds between two questions whether the request is still wanted


@dataclass(frozen=True)
class Place:
    """A run as it is now: its folder, and when its manifest was written."""

    folder: Path
    written: int


def place_of(state: State) -> Place:
    """Where the lab finds a run; another place when the run has changed."""
    return Place(state.folder.absolute(), (state.folder / "manifest.json").stat().st_mtime_ns)


def _nothing(step: float, of: float, note: str = "") -> None:
    pass


class _Gone(Exception):
    """The process ended before it answered."""


class Session:
    """A process that holds the lab's model; started when it is first needed, and again when it has died."""

    def __init__(self) -> None:
        self._turn, self._writing, self._starting = threading.Lock(), threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._number = 0
        self._warming: int | None = None
        self._loaded: Place | None = None
        self._was_warmed = False

    @property
    def pid(self) -> int | None:
        """The process that computes; None when there is none."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def has(self, place: Place) -> bool:
        """Whether the model of a run is loaded."""
        return self.pid is not None and self._loaded == place

    def ask(self, name: str, place: Place, *given: Any, tell: Callable[..., object] = _nothing) -> Any:
        """The answer to a request of `live.REQUESTS`; waits until it is there. Warming up gives way to it.

        tell     called with (step, of, note) while an attack searches; what it raises ends the search and is raised here
        Raises   what the process raised; RunError when it ended before it answered
        """
        if (warming := self._warming) is not None:
            self._stop(warming)
        with self._turn:
            return self._asked(name, place, given, tell)

    def warm_up(self, place: Place) -> threading.Thread | None:
        """Load the model of a run in the background, and compute what the lab shows first; only once, and never after a request."""
        with self._starting:
            if self._was_warmed or self._process is not None:
                return None
            self._was_warmed = True
        thread = threading.Thread(target=self._warm, args=(place,), daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """End the process."""
        with self._turn:
            self._end()

    def _warm(self, place: Place) -> None:
        with self._turn:
            self._warming = self._number + 1
            try:
                self._asked("warm", place, (), _nothing)
            except (WorkbenchError, OSError):
                pass  # the lab says it when it is opened
            finally:
                self._warming = None

    def _asked(self, name: str, place: Place, given: tuple[Any, ...], tell: Callable[..., object]) -> Any:
        self._number += 1
        try:
            if self.pid is None:
                self._end()
                self._start()
            self._send("ask", self._number, name, place, given)
            return self._answer(tell)
        except _Gone:
            raise RunError(
                f"The process of the lab ended before it answered ({self._end()}). Nothing of the run is lost; ask again and a new one "
                "starts. When this happens again, memory may be short: choose fewer seeds or variants."
            ) from None

    def _answer(self, tell: Callable[..., object]) -> Any:
        told: list[Any] = [0.0, 1.0]
        while True:
            if self._comes_soon():
                kind, *rest = self._received()
                if kind != "progress":
                    answer, self._loaded = rest
                    if kind == "failed":
                        raise child.unpacked(answer)
                    return answer
                told = rest
            try:
                tell(*told)  # also where nothing came: who wants to stop raises here, and need not wait for the next step
            except BaseException:  # also what Streamlit raises to run a page again
                self._stop(self._number)
                while self._received()[0] == "progress":
                    pass
                raise

    def _comes_soon(self) -> bool:
        """Whether something comes within LOOK seconds, be it the end."""
        assert self._connection is not None
        try:
            return self._connection.poll(LOOK)
        except OSError:
            return True

    def _received(self) -> tuple[Any, ...]:
        assert self._connection is not None
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise _Gone from None

    def _send(self, *said: Any) -> None:
        with self._writing:
            if self._connection is None:
                raise _Gone
            try:
                self._connection.send(said)
            except OSError:
                raise _Gone from None

    def _stop(self, number: int) -> None:
        with suppress(_Gone):  # who waits for the answer says so
            self._send("stop", number)

    def _start(self) -> None:
        try:
            self._process, self._connection = child.start(COMMAND)
        except OSError as error:
            raise RunError(f"The process of the lab cannot be started: {error}.") from error

    def _end(self) -> str:
        """End the process; how it ended, in words."""
        process, connection = self._process, self._connection
        self._process = self._connection = self._loaded = None
        if connection is not None:
            connection.close()
        return "it never started" if process is None else child.in_words(child.ended(process))


_SESSION = Session()


def session() -> Session:
    """The one session of this process."""
    return _SESSION


def warm_up(state: State) -> None:
    """Warm the session up for a run that is shown, where the environment asks for it."""
    if os.environ.get(VARIABLE) == "1":
        with suppress(OSError):
            _SESSION.warm_up(place_of(state))
