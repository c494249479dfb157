"""`workbench app`: what it refuses, and how it says so. That it serves is seen in tests/browser/test_pages.py."""

import socket
import sys

import pytest

from tests.pages.example_runs import manifest
from workbench.cli import main


@pytest.fixture
def refused(monkeypatch, capsys):
    """refused(*words) -> what `workbench app` says on stderr; it must exit with 2 and start nothing."""
    monkeypatch.setattr("subprocess.Popen", lambda *words, **options: pytest.fail("it started a server"))

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["workbench", "app", "--no-browser", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        assert stopped.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    return call


def test_a_taken_port_is_named_with_another_one(refused, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused("--runs", tmp_path, "--port", port)
    assert f"Port {port} is taken" in said and "workbench app --port" in said


def test_a_file_or_a_single_run_is_no_folder_of_runs(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in refused("--runs", tmp_path / "file")
    (tmp_path / "one").mkdir()
    manifest(tmp_path / "one", [])
    assert f"--runs {tmp_path}" in refused("--runs", tmp_path / "one")


def test_a_port_out_of_range_is_refused(refused, tmp_path):
    assert "65535" in refused("--runs", tmp_path, "--port", 70000)
