"""A run leaves as one file and comes back byte for byte; an archive that somebody has made up writes nothing."""

import hashlib
import json
import stat
import zipfile

import pytest
from typer.testing import CliRunner

from tests.execution.test_broken_runs import write
from workbench.cli import main
from workbench.errors import RunError
from workbench.execution import archive, jobs
from workbench.execution.run_folder import Store


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("runs") / "mine")
    (folder / "nodes" / "erase" / "k").mkdir(parents=True)
    (folder / "nodes" / "erase" / "k" / "weights.bin").write_bytes(bytes(range(256)) * 100)
    return folder


def test_a_run_comes_back_byte_for_byte_and_twice_gives_the_same_archive(run, tmp_path):
    one, n = archive.pack(run, tmp_path / "one.zip")
    two, _ = archive.pack(run, tmp_path / "two.zip")
    assert one.read_bytes() == two.read_bytes() and n == len(content(run))
    back = archive.unpack(one, tmp_path / "there")
    assert back == tmp_path / "there" / "mine" and content(back) == content(run)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine"] and jobs.status(back)["state"] == "finished"


def test_what_belongs_to_a_process_or_another_program_and_links_stay_behind(run, tmp_path):
    folder = archive.unpack(archive.pack(run, tmp_path / "a.zip")[0], tmp_path)
    for name in (".lock", "start.json", "start.log", "letter.txt"):
        (folder / name).write_text("{}")
    (folder / "nodes" / "link").symlink_to("/etc")
    (folder / "nodes" / "file").symlink_to("/etc/passwd")
    archive.pack(folder, tmp_path / "b.zip")
    assert content(archive.unpack(tmp_path / "b.zip", tmp_path, "other")) == content(run)


def test_nothing_is_replaced(run, tmp_path):
    path, _ = archive.pack(run, tmp_path / "a.zip")
    with pytest.raises(RunError, match="exists already, and nothing is replaced"):
        archive.pack(run, path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(RunError, match="another name with --name"):
        archive.unpack(path, tmp_path)
    assert list((tmp_path / "mine").iterdir()) == []
    assert archive.unpack(path, tmp_path, "yours").name == "yours"


def test_a_running_run_is_not_exported(run, tmp_path):
    folder = archive.unpack(archive.pack(run, tmp_path / "a.zip")[0], tmp_path)
    with Store(folder).lock(), pytest.raises(RunError, match="is running"):
        archive.pack(folder, tmp_path / "b.zip")


def made_up(run, path, files=None, entries=None, change=lambda said: said, name="mine"):
    """An archive with these {path: bytes} beside those of the run; `entries` are written as they are; `change` edits the manifest."""
    files = content(run) | (files or {})
    listed = [{"path": one, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for one, data in files.items()]
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("archive.json", json.dumps(change({"format": 1, "run": name, "files": listed})))
        for one, data in files.items():
            made.writestr(one, data)
        for entry, data in entries or ():
            made.writestr(entry, data)
    return path


def link():
    entry = zipfile.ZipInfo("report/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def first(key, value):
    def change(said):
        said["files"][0][key] = value
        return said

    return change


BAD = {
    "path upwards": ({"files": {"../evil": b"x"}}, "no path within"),
    "path upwards inside": ({"files": {"report/../../evil": b"x"}}, "no path within"),
    "absolute path": ({"files": {"/tmp/evil": b"x"}}, "no path within"),
    "path of Windows": ({"files": {"report\\..\\evil": b"x"}}, "no path within"),
    "drive of Windows": ({"files": {"C:evil": b"x"}}, "no path within"),
    "control character": ({"files": {"report/a\nb": b"x"}}, "no path within"),
    "file of no run": ({"files": {"evil.sh": b"x"}}, "no path within"),
    "lock": ({"files": {".lock": b"x"}}, "no path within"),
    "start": ({"files": {"start.json": b"{}"}}, "no path within"),
    "folder": ({"entries": [("report/x/", b"")]}, "no ordinary file"),
    "link": ({"entries": [(link(), b"/etc/passwd")]}, "no ordinary file"),
    "not listed": ({"entries": [("report/more", b"x")]}, "lists other files"),
    "missing": ({"change": lambda said: said | {"files": said["files"][1:]}}, "lists other files"),
    "listed twice": ({"change": lambda said: said | {"files": said["files"] * 2}}, "lists other files"),
    "wrong digest": ({"change": first("sha256", "0" * 64)}, "its digest differs"),
    "no digest": ({"change": first("sha256", "x")}, "does not list files"),
    "wrong size": ({"change": first("bytes", 3)}, "not as large as"),
    "negative size": ({"change": first("bytes", -1)}, "not as large as"),
    "too large": ({"change": first("bytes", 2**50)}, "more than 200,000 files or 64 GiB"),
    "size is text": ({"change": first("bytes", "3")}, "does not list files"),
    "another format": ({"change": lambda said: said | {"format": 2}}, "another version"),
    "a list": ({"change": lambda said: []}, "another version"),
    "name upwards": ({"name": ".."}, "no run can be called"),
    "name with a path": ({"name": "a/b"}, "no run can be called"),
    "name empty": ({"name": ""}, "no run can be called"),
    "no run": ({"files": {"manifest.json": b"[]"}}, "no run that can be read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_archive_that_is_not_as_it_should_be_writes_nothing(run, tmp_path, kind):
    how, words = BAD[kind]
    path = made_up(run, tmp_path / "bad.zip", **how)
    with pytest.raises(RunError, match=words):
        archive.unpack(path, tmp_path / "runs")
    left = list((tmp_path / "runs").iterdir()) if (tmp_path / "runs").exists() else []
    assert left == [] and {one.name for one in tmp_path.iterdir()} <= {"bad.zip", "runs"}


def test_a_file_that_is_there_twice_is_refused(run, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = made_up(run, tmp_path / "bad.zip", entries=[("manifest.json", b"{}")])
    with pytest.raises(RunError, match="is there twice"):
        archive.unpack(path, tmp_path / "runs")


def test_a_file_larger_than_the_limit_is_refused(run, tmp_path, monkeypatch):
    path, _ = archive.pack(run, tmp_path / "a.zip")
    monkeypatch.setattr(archive, "MOST_FILE", 1000)
    with pytest.raises(RunError, match="larger than"):
        archive.unpack(path, tmp_path / "runs")


@pytest.mark.parametrize("bytes_", [b"", b"no zip", b"PK\x03\x04" + bytes(50)])
def test_what_is_no_archive_is_one_sentence(tmp_path, bytes_):
    (tmp_path / "a.zip").write_bytes(bytes_)
    with pytest.raises(RunError, match="is no archive of a run"):
        archive.unpack(tmp_path / "a.zip", tmp_path)
    with pytest.raises(RunError, match="no file"):
        archive.unpack(tmp_path / "none.zip", tmp_path)


def test_a_cut_archive_is_refused(run, tmp_path):
    path, _ = archive.pack(run, tmp_path / "a.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError):
        archive.unpack(path, tmp_path / "runs")
    for place in range(len(whole) // 10, len(whole), len(whole) // 40):
        spoiled = bytearray(whole)
        spoiled[place] ^= 255
        path.write_bytes(spoiled)
        with pytest.raises(RunError):
            archive.unpack(path, tmp_path / "runs")
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


def test_the_commands_say_what_was_written(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main.app, ["export-run", str(run), "--out", "mine.zip"])
    assert done.exit_code == 0 and "workbench import-run mine.zip" in done.output
    done = CliRunner().invoke(main.app, ["import-run", "mine.zip", "--name", "copy"])
    assert done.exit_code == 0 and content(tmp_path / "runs" / "copy") == content(run)
