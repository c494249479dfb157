"""A process of ours that answers over a socket: what the engine `processes` and the lab share. Needs no torch.

start      start one: `python -P -m MODULE FD`, where FD is the number of its end of the socket
ended      its exit code, once the connection is closed;  in_words   what the code says
listen     in the child: take what is sent, and end with the process that started it
packed     an error as bytes, to be sent;  unpacked   the error again
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from workbench.errors import RunError, WorkbenchError

PATIENCE = 10.0  # seconds in which a child whose connection has closed must be gone


def start(command: list[str], environment: Mapping[str, str] | None = None) -> tuple[subprocess.Popen[bytes], Connection]:
    """(the process, our end of the socket); the child's end is the last word of its command.

    Raises   OSError when it cannot be started
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        except OSError:
            ours.close()
            raise
    return process, Connection(ours.detach())


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process whose connection has closed, which is killed where it does not end by itself."""
    try:
        return process.wait(PATIENCE if process.poll() is None else 0)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def in_words(code: int) -> str:
    """What an exit code says."""
    if code == -signal.SIGKILL:
        return "killed, as the system does when memory is short"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"


def connection_of_this() -> Connection:
    """In the child: its end of the socket. Ctrl-C is left to the process that started it, which ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Connection(int(sys.argv[1]))


def listen(connection: Connection, take: Callable[[Any], object]) -> None:
    """Hand on what is sent; end the process when nothing more can come, whatever it computes. For a thread of its own."""
    while True:
        try:
            take(connection.recv())
        except (EOFError, OSError):
            os._exit(3)


def packed(error: BaseException) -> bytes:
    """An error as bytes; one that cannot be sent as it is becomes a RunError with its words."""
    try:
        data = pickle.dumps(error)
        if str(unpacked(data)) == str(error) and isinstance(error, WorkbenchError | OSError | MemoryError):
            return data
    except Exception:  # what an exception of a library does when it is pickled, nobody knows
        pass
    told = str(error) if isinstance(error, WorkbenchError) else "".join(traceback.format_exception(error)).strip()
    return pickle.dumps(RunError(told))


def unpacked(data: bytes) -> BaseException:
    """The error that `packed` gave, in a process of ours: nothing else may be read so, for pickles can run code."""
    return pickle.loads(data)
