"""Which process holds the lock of a run folder. Only the process of a run does; status.json is no proof.

is_held   whether any process holds a lock file
holder    which one, proved: the kernel names it, and it has that very file open
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


def is_held(path: str | Path) -> bool | None:
    """Whether a process holds the lock file; None when this user may not know. A missing file is not created.

    The test takes the lock for an instant, as a shared lock; a run that starts waits longer than that.
    """
    try:
        import fcntl
    except ImportError:
        return _is_held_elsewhere(path)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)
    return False


def _is_held_elsewhere(path: str | Path) -> bool | None:
    if not os.path.isfile(path):
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None


def holder(path: str | Path, named: object = None) -> "psutil.Process | None":
    """The psutil.Process that holds a lock file; None when no process does, or when the process cannot be proved.

    On Linux the kernel lists the holders of locks (/proc/locks). Where it does not, `named`, a process id that status.json says, is
    believed only if that process has the lock file open.

    Raises   psutil.AccessDenied when the process belongs to another user, so that its open files cannot be listed
    """
    if not is_held(path):
        return None
    import psutil

    listed = _listed(path)
    for pid in listed if listed is not None else [named]:
        with suppress(psutil.NoSuchProcess, ValueError, TypeError, OverflowError):
            process = psutil.Process(pid) if isinstance(pid, int) and pid > 0 else None
            if process is not None and _has_open(process, path):
                return process
    return None


def _has_open(process: "psutil.Process", path: str | Path) -> bool:
    for file in process.open_files():
        with suppress(OSError):
            if os.path.samefile(file.path, path):
                return True
    return False


def _listed(path: str | Path) -> list[int] | None:
    """Process ids that the kernel lists as holders of locks on a file; None where it lists none."""
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii") as lines:
            fields = [line.split() for line in lines]
    except (OSError, ValueError):
        return None
    # 1: FLOCK  ADVISORY  WRITE 13333 fe:00:2147234 0 EOF; a process that waits has -> after the number
    pids = [int(one[4]) for one in fields if len(one) >= 6 and one[1] != "->" and one[5].rpartition(":")[2] == str(inode)]
    return [pid for pid in pids if pid > 0] or None
