"""The Ablation lab: controls, undo and redo, pictures that change, what is kept, and what it says where nothing can be computed."""

import os
import shutil
import time
import tomllib

import pytest

from tests.pages.opening import open_page
from workbench.errors import RunError
from workbench.models import masks
from workbench.study.study import load_study
from workbench.ui import lab_state, lists, pick, run_list
from workbench.ui.lab_state import Asked, History


@pytest.fixture(scope="module")
def runs(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab-runs")
    shutil.copytree(finished.folder, folder / "tiny")
    return folder


@pytest.fixture
def opened(runs, monkeypatch):
    def open_(**address):
        app = open_page(monkeypatch, runs, "lab", "tiny", **address)
        assert not app.error, [one.value for one in app.error]
        return app

    return open_


def described(app):
    return next(one.value.replace("\\", "") for one in app.markdown if "neurons (" in one.value)


def table(app):
    return app.table[0].value


def pictures(app):
    return [image.proto.imgs[0].url for image in app.get("image")]


def test_it_ablates_the_concept_neurons_of_the_run_at_once(opened):
    app = opened()
    assert "the concept neurons" in described(app) and "set to 0" in described(app)
    assert list(table(app).columns)[1:] == ["base", "erased", "pruned"]
    assert len(pictures(app)) == 9 and any("n = 1 image of one prompt" in caption.value for caption in app.caption)
    before, after, _ = (pictures(app)[row * 3 : row * 3 + 3] for row in range(3))
    assert all(one != two for one, two in zip(before, after, strict=True))


def test_a_strength_of_nothing_shows_the_same_picture_twice(opened):
    app = opened()
    app.slider(key="lab-strength").set_value(0.0).run()
    before, after, _ = (pictures(app)[row * 3 : row * 3 + 3] for row in range(3))
    assert before == after


def test_undo_and_redo_go_through_the_states(opened):
    app = opened()
    first = described(app)
    app.session_state["lab-mode"] = "mean"
    app.run()
    second = described(app)
    assert "mean of the reference prompts" in second and second != first
    app.button(key="lab-undo").click().run()
    assert described(app) == first and app.button(key="lab-undo").disabled
    app.button(key="lab-redo").click().run()
    assert described(app) == second and app.button(key="lab-redo").disabled


def test_the_strength_stays_when_the_mode_has_another_range(opened):
    app = opened()
    app.slider(key="lab-strength").set_value(0.75).run()
    for mode in ("scale", "mean", "clamp", "zero"):
        app.session_state["lab-mode"] = mode
        app.run()
        assert app.slider(key="lab-strength").value == 0.75, mode
    app.session_state["lab-mode"] = "scale"
    app.run()
    app.slider(key="lab-strength").set_value(3.0).run()
    assert "multiplied by 3" in described(app)
    app.session_state["lab-mode"] = "zero"
    app.run()
    assert app.slider(key="lab-strength").value == 1.0


def test_a_random_set_of_the_same_size_swaps_in_and_back(opened):
    app = opened()
    n = described(app).split(" neurons")[0]
    app.button(key="lab-swap").click().run()
    assert described(app).startswith(f"{n} neurons") or described(app).startswith(f"**{n} neurons")
    assert "random neurons" in described(app)
    app.button(key="lab-another").click().run()
    assert "seed 2" in described(app)
    app.button(key="lab-swap").click().run()
    assert "random" not in described(app)


def test_a_link_reopens_the_state(opened):
    app = opened(**{"pick": "top:score:5", "lab-mode": "scale", "lab-prompt": "cat in ink style", "lab-seeds": "7, 8"})
    assert "5 neurons" in described(app) and "multiplied by" in described(app)
    assert app.text_input(key="lab-prompt").value == "cat in ink style" and len(pictures(app)) == 18


def test_bad_requests_are_said_and_lose_nothing(opened, runs, monkeypatch):
    app = opened()
    for key, value, words in (
        ("pick", "cluster:99", "no clusters"),
        ("lab-seeds", "one", "no list of 1 to"),
        ("lab-prompt", "   ", "The prompt is empty"),
    ):
        kept = app.text_input(key=key).value
        app.text_input(key=key).set_value(value).run()
        assert not app.exception and any(words in error.value.replace("\\", "") for error in app.error)
        app.text_input(key=key).set_value(kept).run()
        assert not app.error and pictures(app)


def test_an_attack_is_made_against_the_state_and_shown(opened, monkeypatch):
    monkeypatch.setattr("workbench.ui.lab_actions.ITERATIONS", 2)
    app = opened()
    before = pictures(app)
    app.button(key="lab-attack").click().run()
    assert not app.exception and not app.error
    app.toggle(key="lab-attacked").set_value(True).run()
    assert pictures(app) != before
    app.slider(key="lab-strength").set_value(0.5).run()
    assert any("transferred" in caption.value for caption in app.caption)


def test_what_was_found_is_kept_as_a_list_and_as_a_variant_of_a_study(opened, runs):
    app = opened()
    app.text_input(key="lab-list").set_value("eyes").run()
    app.button(key="lab-save").click().run()
    state = run_list.look(runs / "tiny")
    assert lists.read(state, "eyes") == pick.resolve(state, "concept")
    app.text_input(key="lab-variant-name").set_value("without-eyes").run()
    app.button(key="lab-prune").click().run()
    assert not app.error, [one.value for one in app.error]
    path = runs / "studies" / "tiny-without-eyes.toml"
    study = load_study(path)
    made = study.variant("without-eyes")
    assert (made.method, made.parent, made.role) == ("mask_from_file", "erased", "pruned") and study.name == path.stem
    assert masks.count(masks.load(tomllib.loads(path.read_text())["variants"][-1]["parameters"]["file"])[0])
    app.button(key="lab-prune").click().run()
    assert any("exists already" in error.value for error in app.error)


def test_a_run_without_its_model_or_study_says_so(runs, tmp_path, monkeypatch):
    from workbench.storage import read_json, write_json

    shutil.copytree(runs / "tiny", tmp_path / "moved")
    study = read_json(tmp_path / "moved" / "study.json")
    write_json(tmp_path / "moved" / "study.json", study | {"model": study["model"] | {"base": "nobody/nothing"}})
    os.utime(tmp_path / "moved" / "study.json", (1e9, 1e9))  # else it counts as a run that has just begun
    app = open_page(monkeypatch, tmp_path, "lab", "moved")
    assert not app.error and any("is not on this machine" in info.value for info in app.info)
    (tmp_path / "moved" / "study.json").write_text("{}")
    os.utime(tmp_path / "moved" / "study.json", (1e9, 1e9))
    app = open_page(monkeypatch, tmp_path, "lab", "moved")
    assert any("Nothing can be computed here" in info.value for info in app.info)


def test_a_model_too_large_for_the_pages_is_computed_by_a_process_of_its_own(opened, monkeypatch):
    monkeypatch.setattr("workbench.ui.live.MOST_BYTES", 10)
    app = opened()
    assert not pictures(app) and any("workbench ablate" in code.value for code in app.code)
    app.button(key="lab-job").click().run()
    assert not app.exception and any("Computing" in info.value for info in app.info)
    for _ in range(600):
        if pictures(app):
            break
        time.sleep(0.2)
        app.run()
    assert len(pictures(app)) == 6 and not app.error
    app.text_input(key="lab-device").set_value("cuda:77").run()
    app.button(key="lab-job").click().run()
    for _ in range(600):
        if app.error:
            break
        time.sleep(0.2)
        app.run()
    assert any("cuda" in error.value for error in app.error)


def test_the_command_and_the_python_of_a_state_do_the_same(runs, tmp_path):
    import subprocess
    import sys

    state = run_list.look(runs / "tiny")
    asked = Asked("top:score:3", "scale", 3.0, (1, 2), "both", 'cat "in" ink style', (3,), ("erased",))
    command = lab_state.as_command(state, asked).removesuffix("ablation") + str(tmp_path / "out")
    done = subprocess.run(
        ["bash", "-c", command.replace("workbench", f"{sys.executable} -m workbench.cli", 1)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    from workbench.storage import read_json

    row = read_json(tmp_path / "out" / "numbers.json")["rows"][0]
    code = lab_state.as_python(state, asked, pick.resolve(state, asked.pick))
    found = {}
    exec(code, found)
    images = found["lab"].images(*found["asked"], "erased", found["ablation"])
    assert found["lab"].found(images)[1][0] == pytest.approx(row["score"][1], abs=1e-5)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["erased-3-after.png", "erased-3-before.png"]


def test_history_forgets_what_was_undone_when_something_new_is_shown():
    past, states = History(), [Asked(strength=share) for share in (0.1, 0.2, 0.3)]
    for one in states:
        past.show(one)
    assert past.undo() == states[1] and past.undo() == states[0] and past.undo() is None
    past.show(Asked(strength=0.9))
    assert not past.can_redo and past.undo() == states[0]


def test_seeds_and_prompts_are_checked():
    assert lab_state.seeds_of("1, 2 2,3") == (1, 2, 3)
    for text in ("", "1,2,3,4,5", "-1", "x", "9" * 30, "¹"):
        with pytest.raises(RunError):
            lab_state.seeds_of(text)
    for text in ("", "a" * 501, "a\nb"):
        with pytest.raises(RunError):
            lab_state.prompt_of(text)
