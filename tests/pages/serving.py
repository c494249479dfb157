"""`workbench app` as a process, and a browser's websocket without a browser."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

COMMAND = [sys.executable, "-P", "-m", "workbench.cli"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address):
    try:
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
            return True
    except OSError:
        return False


def within(seconds, condition):
    """Whether a condition comes true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def start(runs, log, cwd=None, environment=None):
    """(process, address) of `workbench app` on a folder of runs, once it answers."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = [*COMMAND, "app", "--runs", str(runs), "--port", str(port), "--no-browser"]
    given = os.environ | {"OMP_NUM_THREADS": "1", "WORKBENCH_WARM": "0"} | (environment or {})
    process = subprocess.Popen(words, stdout=log.open("w"), stderr=subprocess.STDOUT, cwd=cwd, env=given)
    if not within(90, lambda: process.poll() is not None or answers(address)) or process.poll() is not None:
        process.terminate()
        raise AssertionError(f"the app did not answer: {log.read_text()}")
    return process, address


@contextmanager
def served(runs, log, **options):
    """The address of an app that ends with the block, server and all."""
    process, address = start(runs, log, **options)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert within(20, lambda: not answers(address)), "the server is still there after the command that started it has ended"


def script_of(address, page="", query="", seconds=60):
    """Let the server run a page's script as for a browser; the text of all that it sent, once it has finished."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.sync.client import connect

    ask = BackMsg()
    ask.rerun_script.query_string, ask.rerun_script.page_name = query, page
    sent = []
    with connect(address.replace("http", "ws") + "/_stcore/stream", subprotocols=["streamlit"], max_size=None) as line:
        line.send(ask.SerializeToString())
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            message = ForwardMsg()
            message.ParseFromString(line.recv(timeout=seconds))
            sent.append(str(message))
            if message.WhichOneof("type") == "script_finished":
                return "\n".join(sent)
    raise AssertionError("the script of the page did not finish")
