"""The process that holds the lab's model: the answers of the lab, progress and stop, a death, warming up, an end with the pages."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest

from tests.pages.serving import script_of, start, within
from workbench.errors import MethodError, RunError
from workbench.execution import child
from workbench.lab import Lab
from workbench.storage import read_json, write_json
from workbench.ui import lab_process, lab_session, lab_state, live, pick, run_list


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    return shutil.copytree(finished.folder, tmp_path_factory.mktemp("session-runs") / "tiny")


@pytest.fixture(scope="module")
def state(run):
    return run_list.look(run)


@pytest.fixture(scope="module")
def place(state):
    return lab_session.place_of(state)


@pytest.fixture(scope="module")
def first(run, state):
    """(what the page shows first, its neurons, the other concept neurons)."""
    asked = lab_state.first(state, ("base", "erased", "pruned"))
    neurons = pick.resolve(state, asked.pick)
    return asked, neurons, lab_state.rest(state, neurons)


@pytest.fixture(scope="module")
def session():
    made = lab_session.Session()
    yield made
    made.close()
    assert made.pid is None


def alike(one, two):
    """Whether two outcomes are equal but for the rounding of batches that are composed in another way."""
    for name in ("before", "after", "difference"):
        for pair in zip(getattr(one, name), getattr(two, name), strict=True):
            a, b = (np.asarray(picture, dtype=int) for picture in pair)
            assert np.abs(a - b).max() <= (1 if name != "difference" else 3)
    for name in ("found", "target", "activity"):
        assert np.allclose(getattr(one, name), getattr(two, name), atol=1e-5), name
    assert (one.variant, one.why, one.reference, one.rest is None) == (two.variant, two.why, two.reference, two.rest is None)
    return True


def test_it_answers_what_the_lab_answers_in_this_process(session, run, place, first):
    asked, neurons, rest = first
    lab = Lab(run)
    for mode in ("zero", "patch"):
        one = replace(asked, mode=mode)
        here, there = (
            answer(asked.variants, one, neurons, rest) for answer in (partial(live.outcomes, lab), partial(session.ask, "outcomes", place))
        )
        assert len(here) == 3 and all(map(alike, here, there))
    assert session.ask("retained", place, "erased", asked, neurons) == live.retained(lab, "erased", asked, neurons)
    assert session.has(place)


def test_an_attack_tells_its_progress_and_its_vectors_can_be_shown(session, place, first):
    asked, neurons, rest = first
    told = []
    vectors = session.ask("attack", place, "erased", asked, neurons, 3, tell=lambda step, of, note="": told.append((step, of)))
    assert vectors.shape[:2] == (1, 3) and np.isfinite(vectors).all() and told and all(step <= of for step, of in told)
    without, under = (session.ask("outcomes", place, ["erased"], asked, neurons, rest, one)[0] for one in ({}, {"erased": vectors}))
    assert without.before[0] != under.before[0]


def test_what_progress_raises_stops_the_attack_and_the_next_request_is_answered(session, place, first):
    asked, neurons, rest = first
    pid = session.pid

    class Again(BaseException):
        """As Streamlit's, which is no Exception either."""

    def tell(step, of, note=""):
        raise Again

    with pytest.raises(Again):
        session.ask("attack", place, "erased", asked, neurons, 10**6, tell=tell)  # days, were it not stopped
    assert session.ask("outcomes", place, ["base"], asked, neurons, rest)[0].variant == "base" and session.pid == pid


def test_a_request_can_be_stopped_before_its_first_step(place, monkeypatch):
    """The other end says nothing until it is told to stop, as during a long step of an attack."""
    mine, other = multiprocessing.Pipe()
    session = lab_session.Session()
    monkeypatch.setattr(lab_session.child, "start", lambda command: (Mute(), mine))
    heard = []

    def answers():
        while not heard or heard[-1][0] != "stop":
            heard.append(other.recv())
        other.send(("failed", child.packed(RunError("stopped")), place))

    class Again(BaseException):
        pass

    def tell(step, of, note=""):
        raise Again

    thread = threading.Thread(target=answers)
    thread.start()
    with pytest.raises(Again):
        session.ask("attack", place, "erased", tell=tell)
    thread.join(30)
    assert [said[0] for said in heard] == ["ask", "stop"] and heard[0][1] == heard[1][1]


class Mute:
    """A process that is there."""

    pid = 1

    def poll(self):
        return None


def test_what_the_lab_refuses_is_raised_here_with_its_words(session, place, first):
    asked, neurons, rest = first
    with pytest.raises(MethodError, match="No neuron is picked"):
        session.ask("outcomes", place, ["base"], asked, {}, {})
    with pytest.raises(RunError, match="no-such"):
        session.ask("outcomes", place, ["no-such"], asked, neurons, rest)


def test_a_killed_process_is_said_and_another_one_answers(session, place, first):
    asked, neurons, rest = first
    before = session.ask("outcomes", place, ["base"], asked, neurons, rest)[0]
    os.kill(session.pid, signal.SIGKILL)
    psutil.Process(session.pid).wait(30)
    assert session.pid is None and not session.has(place)
    assert alike(session.ask("outcomes", place, ["base"], asked, neurons, rest)[0], before)

    def tell(step, of, note=""):
        os.kill(session.pid, signal.SIGKILL)

    with pytest.raises(RunError, match="ended before it answered .killed"):
        session.ask("attack", place, "base", asked, neurons, 10**6, tell=tell)
    assert alike(session.ask("outcomes", place, ["base"], asked, neurons, rest)[0], before)


def test_warming_up_computes_all_that_the_page_shows_first(place, first, monkeypatch):
    asked, neurons, rest = first
    holder = lab_process.Holder()
    assert holder.warm(place, lambda: False) == 3
    lab = holder.lab(place)

    def no_unet(*given, **more):
        raise AssertionError("something was computed again")

    monkeypatch.setattr(lab.model.unet, "forward", no_unet)
    assert [one.why for one in live.outcomes(lab, asked.variants, asked, neurons, rest)] == [""] * 3
    with pytest.raises(AssertionError, match="computed again"):
        live.outcomes(lab, ["base"], replace(asked, strength=0.5), neurons, rest)


def test_warming_up_happens_once_and_gives_way_to_a_request(place, first):
    asked, neurons, rest = first
    session = lab_session.Session()
    thread = session.warm_up(place)
    assert thread is not None and session.warm_up(place) is None
    assert session.ask("outcomes", place, ["erased"], asked, neurons, rest)[0].variant == "erased"
    thread.join(60)
    assert not thread.is_alive() and session.has(place) and session.warm_up(place) is None
    session.close()
    assert lab_process.Holder().warm(place, lambda: True) == 0  # the model is loaded, nothing is computed


def test_a_large_model_and_a_run_without_one_are_not_loaded(run, place, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "MOST_BYTES", 10)
    holder = lab_process.Holder()
    assert holder.warm(place, lambda: False) == 0 and holder.place is None
    moved = shutil.copytree(run, tmp_path / "moved")
    study = read_json(moved / "study.json")
    write_json(moved / "study.json", study | {"model": study["model"] | {"base": "nobody/nothing"}})
    os.utime(moved / "study.json", (1e9, 1e9))  # else it counts as a run that has just begun
    assert holder.warm(lab_session.place_of(run_list.look(moved)), lambda: False) == 0 and holder.place is None


def test_it_ends_with_the_process_that_asked(run, tmp_path):
    code = (
        "import sys, time\n"
        "from workbench.ui import lab_session, run_list\n"
        "session = lab_session.Session()\n"
        f"session.warm_up(lab_session.place_of(run_list.look({str(run)!r})))\n"
        "while session.pid is None: time.sleep(0.05)\n"
        "print(session.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    asking = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(asking.stdout.readline())
    assert psutil.pid_exists(pid)
    asking.kill()
    asking.wait()
    assert within(60, lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("warm", [True, False])
def test_the_server_warms_it_up_when_the_first_page_is_shown_and_ends_it(run, warm, tmp_path):
    def holders():
        found = [one for one in psutil.process_iter(["cmdline"]) if lab_session.COMMAND[-1] in (one.info["cmdline"] or [])]
        return {one.pid for one in found if process.pid in {above.pid for above in one.parents()}}

    process, address = start(run.parent, tmp_path / "log", environment={lab_session.VARIABLE: "1" if warm else "0"})
    try:
        assert not holders()
        script_of(address, query="run=tiny")
        assert within(30, holders) if warm else not within(2, holders)
        seen = holders()
    finally:
        process.terminate()
        process.wait(60)
    assert within(60, lambda: not any(map(psutil.pid_exists, seen)))


def test_no_page_loads_torch_not_even_the_lab(run):
    from workbench.ui.navigation import pages

    script = next(page.script for page in pages() if page.name == "lab")
    code = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        "from tests.pages.opening import SCRIPT\n"
        "app = AppTest.from_file(str(SCRIPT), default_timeout=180)\n"
        "app.query_params['run'] = 'tiny'\n"
        f"app.run(); app.switch_page({str(script)!r}).run()\n"
        "assert not app.exception and not app.error and app.get('image'), [one.value for one in app.error]\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    given = os.environ | {run_list.VARIABLE: str(run.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=given, timeout=300)
    assert done.returncode == 0, done.stderr
