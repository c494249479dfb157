"""The wheel carries all that a run needs: installed elsewhere, started in an empty folder, with no checkout in sight.

The new environment sees the libraries of this one, but neither its editable install nor the checkout.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(HERE)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """run(*words) of the installed command in an empty folder; returns the finished process."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    site = next((folder / "env" / "lib").glob("python*")) / "site-packages"
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "empty").mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*words, **options):
        return subprocess.run([str(python), *words], cwd=folder / "empty", env=clean, capture_output=True, text=True, **options)

    return run


def test_the_wheel_holds_pages_analyses_and_the_model(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in ("_analyses/emoji-church.toml", "_data/emoji/model/model_index.json", "_data/prompts/emoji-weapon-target.csv"):
        assert f"workbench/{needed}" in names
    for folder, inside in (("pages", "_pages"), ("analyses", "_analyses"), ("data/prompts", "_data/prompts")):
        for path in (HERE / folder).iterdir():
            if path.suffix in (".py", ".toml", ".csv"):
                assert f"workbench/{inside}/{path.name}" in names, path
    example = {path.relative_to(HERE / "data").as_posix() for path in (HERE / "data" / "example-run").rglob("*") if path.is_file()}
    assert example and {f"workbench/_data/{path}" for path in example} <= names
    assert {"workbench/ui/.streamlit/config.toml", "workbench/py.typed"} <= names
    assert not [name for name in names if "/build/" in name or name.startswith("tests")]


def test_the_installed_package_is_not_the_checkout(installed):
    where = installed("-c", "import workbench; print(workbench.__file__)", check=True).stdout
    assert str(HERE) not in where


def test_a_study_runs_from_an_empty_folder(installed):
    listed = installed("-m", "workbench.cli", "list", "studies", "--json", check=True).stdout
    assert {row["study"] for row in json.loads(listed)} >= {"emoji-ink-style", "emoji-church", "emoji-weapon"}
    changes = ["sampling.steps=2", "record.calls=[1]", 'record.sites=["ff"]', 'record.trajectories=["reference"]']
    changes += ["choose.n_random=19", "choose.n_resamples=100", "attacks.0.parameters.iterations=2"]
    quick = {"iterations": 2, "steps": 2, "trajectories": 0}
    changes += [f"variants.{place}.parameters.{name}={value}" for place in (0, 2) for name, value in quick.items()]
    words = ["run", "emoji-ink-style", "--limit", "4", *(word for change in changes for word in ("--set", change))]
    done = installed("-m", "workbench.cli", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    report = Path(done.args[0]).parents[2] / "empty" / "runs" / "emoji-ink-style" / "report" / "report.html"
    assert report.stat().st_size > 100_000
