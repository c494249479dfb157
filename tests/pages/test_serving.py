"""The server of `workbench app`: it runs nothing of the working directory, ends with its command, and may not be framed."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from urllib.parse import urlparse

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.pages.example_runs import finished
from tests.pages.serving import COMMAND, answers, free_port, script_of, served, start, within
from tests.pages.test_pages import PAGES
from workbench.errors import WorkbenchError
from workbench.resources import PACKAGE
from workbench.ui import launch

# what Python, Streamlit or a page imports, and would take from the working directory first if that were on the path
NAMES = [
    *("streamlit", "http", "tornado", "uvicorn", "starlette", "websockets", "click", "toml", "tomllib", "asyncio", "logging", "json"),
    *("types", "select", "profile", "random", "secrets", "torch", "numpy", "pandas", "pyarrow", "PIL", "plotly", "safetensors", "psutil"),
    *("filelock", "rich", "typer", "pydantic", "scipy", "workbench", "app", "serve", "streamlit_app", "git", "webbrowser", "encodings"),
    *("sitecustomize", "usercustomize"),
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A working directory full of modules that leave a mark when they run, with Streamlit's files that open the server to everyone."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in NAMES:
        mark = f"open({str(folder / 'RAN')!r}, 'a').write({name!r} + ' ')\n"
        (folder / f"{name}.py").write_text(mark)
    (folder / "pages").mkdir()
    (folder / "pages" / "overview.py").write_text(f"open({str(folder / 'RAN')!r}, 'a').write('pages/overview ')\n")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text(
        '[server]\naddress = "0.0.0.0"\nport = 1\nenableXsrfProtection = false\nenableCORS = false\nenableStaticServing = true\n'
        'allowedHosts = ["*"]\nbaseUrlPath = "evil"\n[client]\ntoolbarMode = "developer"\n[theme]\nbase = "evil.toml"\n'
    )
    (folder / ".streamlit" / "secrets.toml").write_text('[auth]\ncookie_secret = "known to the attacker"\nredirect_uri = "http://evil"\n')
    return folder


@pytest.fixture(scope="module")
def address(hostile, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    finished(folder / "runs" / "one")
    with served(folder / "runs", folder / "log", cwd=hostile) as address:
        yield address


def ask(address, path, method="GET", **headers):
    """(status, headers, body) of one request."""
    where = urlparse(address)
    line = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
    line.request(method, path, headers=headers)
    answer = line.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    line.close()
    return found


def test_no_module_of_the_working_directory_runs_when_pages_are_shown(address, hostile):
    for name in PAGES:
        sent = script_of(address, name, "run=one")
        assert "Prompt" in sent or "neuron" in sent
        assert "stack_trace" not in sent
    assert not (hostile / "RAN").exists(), (hostile / "RAN").read_text()


def test_no_verb_runs_a_module_of_the_working_directory(hostile):
    done = subprocess.run([*COMMAND, "list", "methods"], cwd=hostile, capture_output=True, text=True)
    assert done.returncode == 0 and not (hostile / "RAN").exists(), done.stderr


def test_folders_of_pythonpath_stay_importable_but_an_empty_entry_is_not_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "mine", "/opt/theirs", ""]))
    given = launch.environment()
    assert given["PYTHONPATH"].split(os.pathsep) == [str(tmp_path / "mine"), "/opt/theirs"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "helpful.py").write_text("")
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    done = subprocess.run([sys.executable, "-P", "-c", "import helpful, json"], env=given, cwd=tmp_path)
    assert done.returncode == 0


def test_files_of_streamlit_in_the_working_directory_change_nothing(address):
    port = urlparse(address).port
    assert ask(address, "/")[0] == 200
    with pytest.raises(ConnectionRefusedError):  # bound to 127.0.0.1 alone
        socket.create_connection(("127.0.0.2", port), timeout=5)
    status, _, body = ask(address, "/_stcore/host-config")
    assert status == 200 and b"evil" not in body
    assert ask(address, "/_stcore/upload_file/a/b", "PUT")[0] == 403


def test_only_this_machines_own_names_are_answered(address):
    for path in ("/", "/_stcore/health", "/_stcore/metrics"):
        assert ask(address, path, Host="evil.example")[0] == 400
        assert ask(address, path, Host="localhost:1234")[0] == 200
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(InvalidStatus):
            connect(f"{address.replace('http', 'ws')}/_stcore/stream", additional_headers=headers)


def test_every_answer_refuses_to_be_framed(address):
    shell = ask(address, "/")[2].decode()
    static = re.search(r'src="\.?(/static/[^"]+\.js)"', shell)[1]
    media = re.search(r'"(/media/[^"]+)"', script_of(address, "images", "run=one"))[1]
    expected = {"/": 200, "/images": 200, static: 200, media: 200, "/_stcore/health": 200, "/_stcore/host-config": 200}
    expected |= {"/media/none.png": 404, "/static/none.js": 200, "/component/none/index.html": 404, "//evil.example/..": 400}
    for path, status in expected.items():
        found, headers, _ = ask(address, path)
        assert (path, found) == (path, status)
        assert headers["x-frame-options"] == "DENY" and headers["content-security-policy"] == "frame-ancestors 'none'", path
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer", path
    assert ask(address, "/", Host="evil.example")[1]["x-frame-options"] == "DENY"
    assert ask(address, "/_stcore/upload_file/a/b", "DELETE")[1]["x-frame-options"] == "DENY"


def test_a_killed_command_leaves_no_server(tmp_path):
    process, address = start(tmp_path, tmp_path / "log")
    said = (tmp_path / "log").read_text().splitlines()
    assert len(said) == 1 and address in said[0], "a start says where the pages are, and nothing of Streamlit's"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert within(20, lambda: not answers(address))
    with socket.socket() as probe:  # as the command itself looks whether a port is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", urlparse(address).port))


def test_a_server_that_cannot_start_is_one_sentence(tmp_path, monkeypatch, capfd):
    (tmp_path / "serve.py").write_text("raise SystemExit(7)")
    monkeypatch.setattr(launch, "FOLDER", tmp_path)
    kept = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(WorkbenchError, match="stopped with exit code 7"):
            launch.serve(tmp_path, free_port(), False, lambda words: None)
    finally:
        signal.signal(signal.SIGTERM, kept)


def test_no_module_of_the_pages_hides_another_one():
    """Streamlit puts the folder of its script first on the path."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; from importlib.util import find_spec; print(*[n for n in sys.argv[1:] if find_spec(n)])"]
        + [path.stem for path in launch.FOLDER.glob("*.py") if path.stem != "__init__"],
        capture_output=True,
        text=True,
        cwd=launch.FOLDER,
    )
    assert done.returncode == 0 and done.stdout.split() == []


def test_every_python_that_the_workbench_starts_is_isolated_from_the_working_directory():
    started = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines() if "sys.executable" in line]
    assert started and all('[sys.executable, "-P", ' in line for line in started), started
