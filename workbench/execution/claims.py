"""Who computes what, when several processes share one run folder: claims with a heartbeat.

A claim is a file `.claims/<name>` that its process creates and touches every few seconds. A claim that was not touched for `EXPIRY`
seconds, or whose process is known to have ended, counts for nothing, and another process may take it over. Files are created
exclusively and compared by the clock of the file system, so it works on NFS and with clocks that disagree. A claim only saves work: two
processes that compute the same result write the same bytes, and the first one's stay.

Claims    those of one process
Holder    who holds one
is_led    whether a process leads the work on a folder
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.storage import DamagedFile, read_json, write_json

FOLDER = ".claims"
BEAT = 15.0  # seconds between two touches
EXPIRY = 120.0  # without a touch, after which a claim counts for nothing; caches of file attributes may hide a touch for a minute
LEADER = "leader"
NOTE = "done."  # how long a result took that was computed by a process that is not the leader


@dataclass(frozen=True)
class Holder:
    """Who holds a claim: host, process id with its start time, and whether it shares the folder with others."""

    host: str
    pid: int
    pid_started: float
    shares: bool
    nonce: str

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def has_ended(self) -> bool:
        """Whether it is known to have ended; of another machine nothing is known."""
        if not self.is_here:
            return False
        import psutil

        try:
            process = psutil.Process(self.pid)
            return process.create_time() != self.pid_started or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def is_led(folder: str | Path) -> bool:
    """Whether a living process leads the work on a run folder."""
    return (Path(folder) / FOLDER / LEADER).exists() and Claims(folder).holder(LEADER) is not None


class Claims:
    """The claims of this process in a run folder. A context manager: at its end all are given back.

    beat, expiry   seconds, as BEAT and EXPIRY
    """

    def __init__(self, folder: str | Path, shares: bool = True, beat: float = BEAT, expiry: float = EXPIRY) -> None:
        import psutil

        self.folder = Path(folder) / FOLDER
        me = psutil.Process()
        self.me = Holder(socket.gethostname(), me.pid, me.create_time(), shares, uuid.uuid4().hex)
        self.beat, self.expiry = beat, expiry
        self._held: set[str] = set()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._beating: threading.Thread | None = None

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def take(self, name: str) -> bool:
        """Claim `name`, unless a living process holds it. Claiming what is held already is no fault."""
        if name in self._held:
            return True
        path = self.folder / name
        if not self._create(path):
            found = self._read(path)
            if found is None or not self._is_over(path, found) or not self._take_over(path):
                return False
        with self._lock:
            self._held.add(name)
        if self._beating is None:
            self._beating = threading.Thread(target=self._beats, daemon=True)
            self._beating.start()
        return True

    def release(self, name: str) -> None:
        """Give a claim back."""
        with self._lock:
            if name not in self._held:
                return
            self._held.discard(name)
        path = self.folder / name
        found = self._read(path)
        if found is not None and found.nonce == self.me.nonce:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give everything back."""
        self._over.set()
        for name in list(self._held):
            with suppress(OSError):
                self.release(name)
        with suppress(OSError):
            self.folder.rmdir()  # only when nobody has a claim

    def holder(self, name: str) -> Holder | None:
        """Who holds a claim now; None when nobody does."""
        path = self.folder / name
        found = self._read(path)
        return None if found is None or (found.nonce != self.me.nonce and self._is_over(path, found)) else found

    def others(self) -> Iterator[tuple[str, Holder]]:
        """(name, holder) of every claim that another living process holds."""
        for path in sorted(self.folder.glob("[!.]*")):
            if path.name.startswith(NOTE):
                continue
            found = self.holder(path.name)
            if found is not None and found.nonce != self.me.nonce:
                yield path.name, found

    def note(self, name: str, seconds: float) -> None:
        """Tell the leader that a result is there, and how long it took."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{NOTE}{name}", {"seconds": seconds})

    def notes(self) -> Iterator[tuple[str, float]]:
        """(name, seconds) of what others have told, each once."""
        for path in sorted(self.folder.glob(f"{NOTE}*")):
            with suppress(OSError, DamagedFile, KeyError, TypeError, ValueError):
                seconds = float(read_json(path)["seconds"])
                path.unlink()
                yield path.name.removeprefix(NOTE), seconds

    # files

    def _create(self, path: Path) -> bool:
        """Create the file with its content by one step; False when it is there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{self.me.nonce[:8]}")
        temporary.write_text(json.dumps(self.me.__dict__))
        try:
            os.link(temporary, path)
            return True
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return _create_plainly(path, self.me.__dict__)
        finally:
            temporary.unlink(missing_ok=True)

    def _read(self, path: Path) -> Holder | None:
        try:
            said = json.loads(path.read_text())
            return Holder(str(said["host"]), int(said["pid"]), float(said["pid_started"]), bool(said["shares"]), str(said["nonce"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return Holder("an unknown machine", 0, 0.0, True, "")  # half written: as long as it is young, somebody writes it

    def _is_over(self, path: Path, found: Holder) -> bool:
        if found.has_ended():
            return True
        probe = path.with_name(f".{self.me.nonce[:8]}.probe")
        try:
            probe.write_text("")
            now = probe.stat().st_mtime
        except OSError:  # a folder that this user may only read
            now = time.time()
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        try:
            return now - path.stat().st_mtime > self.expiry
        except FileNotFoundError:
            return True

    def _take_over(self, path: Path) -> bool:
        """Put an own claim where one is over. One process at a time looks again and removes it, so that no new claim is removed."""
        guard = path.with_name(f".{path.name}.taking")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - guard.stat().st_mtime > self.expiry:  # its process died right here
                    guard.unlink()
            return False
        try:
            found = self._read(path)
            if found is not None:
                if not self._is_over(path, found):
                    return False
                path.unlink(missing_ok=True)
            return self._create(path)
        finally:
            guard.unlink(missing_ok=True)

    def _beats(self) -> None:
        while not self._over.wait(self.beat):
            with self._lock:
                held = list(self._held)
            for name in held:
                with suppress(OSError):
                    os.utime(self.folder / name)


def _create_plainly(path: Path, content: dict[str, Any]) -> bool:
    try:
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w") as file:
            file.write(json.dumps(content))
    except FileExistsError:
        return False
    return True
