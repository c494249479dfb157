"""Serves the pages on the runs of a folder, on this machine only."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from workbench import resources
from workbench.errors import WorkbenchError

FOLDER = resources.PACKAGE / "ui"
PATIENCE = 10  # seconds


def serve(runs: Path, port: int, browser: bool, say: Callable[[str], object]) -> None:
    """Start Streamlit on 127.0.0.1 and wait until it ends or Ctrl-C; whoever ends this process ends the server with it.

    The server is a process of its own that can import nothing of the working directory and reads none of Streamlit's files in it:
    it starts with `-P`, in a folder of this package. Folders of PYTHONPATH stay importable.

    runs      Path of the folder that holds the runs
    browser   whether to open the address as soon as the pages answer
    say       called with one line for the reader
    Raises    WorkbenchError when Streamlit is missing or fails, the folder is a file or a run itself, or the port cannot be had
    """
    if find_spec("streamlit") is None:
        raise WorkbenchError("The pages need Streamlit, which is not installed. Install it with: pip install 'streamlit>=1.67,<2'")
    if runs.exists() and not runs.is_dir():
        raise WorkbenchError(f"--runs {runs} is a file; give the folder that holds the runs, by default runs.")
    if (runs / "manifest.json").exists():
        raise WorkbenchError(f"--runs {runs} is a run itself; give the folder it is in: --runs {runs.absolute().parent}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise WorkbenchError(f"Port {port} may not be used without special rights. Choose one from 1024 on: --port 8501") from None
        except OSError:
            other = port + 1 if port < 65535 else 8501
            raise WorkbenchError(f"Port {port} is taken by another program. Choose another one: workbench app --port {other}") from None
    address = f"http://127.0.0.1:{port}"
    say(f"Pages on {runs.absolute()}: {address}  (Ctrl-C stops them)")
    server = subprocess.Popen(
        [sys.executable, "-P", str(FOLDER / "serve.py"), str(port)],
        cwd=FOLDER,
        env=environment() | {"WORKBENCH_RUNS": str(runs.absolute()), "WORKBENCH_WARM": os.environ.get("WORKBENCH_WARM", "1")},
        stdin=subprocess.PIPE,  # closed by the system when this process ends, even by kill -9; serve.py ends then
        stdout=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # whoever ends this process ends the server with it
    try:
        if browser and _answers(f"{address}/_stcore/health", server):
            import webbrowser

            webbrowser.open(address)
        code = server.wait()
    except KeyboardInterrupt:
        return
    finally:
        server.terminate()
        try:
            server.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    if code:
        raise WorkbenchError(f"The pages stopped with exit code {code}; see its message above.")


def environment() -> dict[str, str]:
    """The environment with PYTHONPATH made absolute; its empty entries, which mean the working directory, are left out."""
    folders = [os.path.abspath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders), "PYTHONSAFEPATH": "1"}


def _answers(url: str, server: subprocess.Popen[bytes], seconds: float = 60) -> bool:
    """Wait until a server answers; False when it ended or does not answer in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(0.2)
    return False
