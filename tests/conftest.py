"""Fixtures: a tiny model with the real architecture, a tiny study on it, and finished runs of the study; the order of the files."""

import os
import signal
import threading
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background would hand its deafness on to the runs it stops

import pytest  # noqa: E402

LONGEST = ("test_wheel.py", "execution/test_kill.py", "test_plantings.py", "test_mutations_files.py", "test_mutations.py")


def pytest_collection_modifyitems(items):
    """Long files that would come late come first, so that the processes that share the suite end together."""
    place = {Path(__file__).parent / name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture
def model():
    """A tiny random base model."""
    from tests import tiny
    from workbench.models.load import from_pipeline

    return from_pipeline(tiny.pipeline(), "tiny")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny pipeline saved as a diffusers folder."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def study_file(tmp_path_factory, tiny_folder):
    """A study of six units on the tiny model."""
    from tests.tiny_study import written

    return written(tmp_path_factory.mktemp("study"), tiny_folder)


def _ran(study, tmp_path_factory):
    import workbench

    return workbench.run(workbench.load_study(study), tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_folder):
    """The study, run once; its results have the keys that any `study_file` gives. Tests that change it take a copy."""
    from tests.tiny_study import written

    return _ran(written(tmp_path_factory.mktemp("finished-study"), tiny_folder), tmp_path_factory)


@pytest.fixture(scope="module")
def quick_file(tmp_path_factory, tiny_folder):
    """The study with one site, one call and one attack: every stage of it in half the time, for runs that are compared with each other."""
    from tests.tiny_study import quickly_written

    return quickly_written(tmp_path_factory.mktemp("quick"), tiny_folder)


@pytest.fixture(scope="session")
def quick(tmp_path_factory, tiny_folder):
    """The run of that study; its results have the keys that any `quick_file` gives."""
    from tests.tiny_study import quickly_written

    return _ran(quickly_written(tmp_path_factory.mktemp("quick-study"), tiny_folder), tmp_path_factory)
