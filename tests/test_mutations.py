"""Studies, prompt lists, embeddings, logs and detector folders mutated at random: one message, no traceback, no hang.

What is drawn is the same in every run. More of it: WORKBENCH_MUTATIONS=20 python -m pytest tests/test_mutations.py
"""

import io
import json
import os
import shutil
import tomllib
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from tests.methods.test_detectors_image_classifier import classifier_folder
from tests.mutated import NUMBERS, TEXTS, flipped, folder, run, swapped, toml
from tests.study.imported import TABLES
from tests.tiny_study import STUDY

TIMES = float(os.environ.get("WORKBENCH_MUTATIONS", "1"))
SETS = ("target", "reference", "near")
ROWS = {"target": "{} in ink style", "reference": "{} in noto style", "near": "{} in fluent style"}
THINGS = ("owl", "cat", "house", "church", "mountain", "bridge")
LISTS = {
    name: "unit,prompt,seed,expect\n" + "".join(f"u{i},{ROWS[name].format(thing)},{i},style:fluent\n" for i, thing in enumerate(THINGS))
    for name in SETS
}
MORE = {
    "question": "what?",
    "quality": {"noise_floor": ["seed"]},
    "attribute": {"methods": ["gradient"], "calls": [0, 2], "units": 2, "tokens": 3},
    "cluster": {"k": [2, 3], "n_resamples": 5, "n_random": 19, "regions": 1},
    "ablate": {"effects": ["dose_response", "leave_one_out", "shapley"], "shares": [0.1, 0.2], "units": 2, "n_partitions": 19},
    "expect": [{"variant": "erased", "definition": "success_rate", "low": 0.1, "high": 0.5, "source": "a paper"}],
    "sets": [{"name": "both", "union": ["concept", "suppressed"]}, {"name": "less", "difference": ["both", "suppressed"]}],
}


PATHS = ["sampling.steps", "variants.0.name", "variants.-1", "prompts.target", "x", "model.base", "sets", "choose.share", ""]


def often(n):
    """As many drawn cases as a kind of file is worth; `derandomize`, so that a failure is the same on every machine."""
    hushed = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=int(n * TIMES), deadline=None, derandomize=TIMES == 1, database=None, suppress_health_check=hushed)


@pytest.fixture(scope="module", autouse=True)
def read_once(tiny_folder):
    """The tiny model is read once; no case changes it."""
    from workbench.models import load

    patch, real = pytest.MonkeyPatch(), load.load
    known = cache(lambda device, dtype: real(str(tiny_folder), device, dtype))
    patch.setattr(load, "load", lambda name, *args: known(*args[:2]) if name == str(tiny_folder) else real(name, *args))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def study(tiny_folder):
    return tomllib.loads(STUDY.format(base=tiny_folder)) | MORE


def written(place, text, name="study.toml"):
    for each in SETS:
        (Path(place) / f"{each}.csv").write_text(LISTS[each])
    path = Path(place) / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def told(code, said):
    """An error is one message that says something."""
    if code == 2:
        # what `inspect` found, and why it is no variant
        assert said.strip().startswith(("workbench: ", "Usage:", "╭")) or "Not usable as a variant: " in said, said[:300]
        assert len(said) < 6000, said[:300]


def test_the_study_that_is_mutated_can_be_run(study):
    with folder() as place:
        written(place, toml(study))
        code, said = run(place, "run", "study.toml", "--dry-run")
        assert code == 0, said
        assert run(place, "init", "mine", "--like", "study.toml", "--out", "mine")[0] == 0


@often(120)
@given(data=st.data())
def test_a_study_whose_values_are_swapped_is_run_or_refused(study, data):
    with folder() as place:
        written(place, toml(data.draw(swapped(study))))
        told(*run(place, "run", "study.toml", "--dry-run", "--out", "out"))
        told(*run(place, "show", "study.toml"))


@often(80)
@given(data=st.data())
def test_a_study_whose_bytes_are_changed_is_run_or_refused(study, data):
    with folder() as place:
        written(place, data.draw(flipped(toml(study).encode())))
        told(*run(place, "run", "study.toml", "--dry-run", "--out", "out"))
        told(*run(place, "init", "mine", "--like", "study.toml", "--out", "mine"))


@often(60)
@given(
    path=st.sampled_from(["sampling.steps", "variants.0.name", "variants.-1", "prompts.target", "x", "model.base", "sets", ""]),
    value=TEXTS | NUMBERS,
)
def test_an_assignment_of_anything_is_run_or_refused(study, path, value):
    with folder() as place:
        written(place, toml(study))
        text = f"{path}={value}".replace("\0", "")  # no shell can pass a null byte
        told(*run(place, "run", "study.toml", "--dry-run", "--set", text))


@often(80)
@given(data=st.data(), which=st.sampled_from(SETS))
def test_a_prompt_list_of_a_study_is_read_or_refused(study, data, which):
    with folder() as place:
        written(place, toml(study))
        (Path(place) / f"{which}.csv").write_bytes(data.draw(flipped(LISTS[which].encode())))
        told(*run(place, "run", "study.toml", "--dry-run"))


def published(name):
    header, line = TABLES[name]
    return "\n".join([header, *(line.format(f"a {thing} in ink", 100 + i, 7.5, i) for i, thing in enumerate(THINGS))]) + "\n"


@often(100)
@given(data=st.data(), name=st.sampled_from(sorted(TABLES)), ending=st.sampled_from(["csv", "csv", "txt"]))
def test_a_list_from_outside_is_imported_or_refused(data, name, ending):
    with folder() as place:
        written(place, data.draw(flipped(published(name).encode())), f"list.{ending}")
        told(*run(place, "import-prompts", f"list.{ending}", "--provenance", "static", "--out", "out"))


@often(60)
@given(data=st.data(), lines=st.booleans())
def test_a_json_list_is_imported_or_refused(data, lines):
    records = data.draw(swapped([{"prompt": f"a {thing}", "seed": 3, "id": str(thing)} for thing in THINGS]))
    with folder() as place:
        text = "\n".join(map(json.dumps, records)) if lines and isinstance(records, list) else json.dumps(records)
        written(place, text, "list.jsonl" if lines else "list.json")
        told(*run(place, "import-prompts", "list.jsonl" if lines else "list.json", "--provenance", "static", "--out", "out"))


ABOUT = {"schema_version": 1, "kind": "prompts", "provenance": "optimised", "against": "erased", "n": 6}


@often(40)
@given(data=st.data())
def test_the_note_beside_a_list_is_read_or_refused(study, data):
    attack = [{"method": "from_file", "parameters": {"file": "made.csv"}}]
    with folder() as place:
        written(place, toml(study | {"attacks": attack, "expect": []}))
        (Path(place) / "made.csv").write_text(LISTS["target"])
        note = data.draw(st.one_of(swapped(ABOUT).map(json.dumps).map(str.encode), flipped(json.dumps(ABOUT).encode())))
        (Path(place) / "made.about.json").write_bytes(note)
        told(*run(place, "run", "study.toml", "--dry-run"))
        told(*run(place, "import-prompts", "made.csv", "--out", "again"))


LOG = [
    {"prompt": "a church", "success": False, "loss": 0.1},
    {"prompt": "zz church", "success": True, "seed": 3, "style": [{"label": "x", "score": 0.1}]},
]
CONFIG = {"overall": {"attacker": "text_grad"}, "task": {"concept": "church", "target_ckpt": "esd.pt"}, "attacker": {"attack_idx": 3}}


@often(50)
@given(log=swapped(LOG), config=swapped(CONFIG))
def test_a_log_folder_is_imported_or_refused(log, config):
    with folder() as place:
        for name, content in (("log.json", log), ("config.json", config)):
            (Path(place) / name).write_text(json.dumps(content))
        told(*run(place, "import-prompts", "log.json", "--provenance", "optimised", "--against", "erased", "--out", "out"))


def pickled(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


EMBEDDINGS = {
    "e.pt": pickled({"<a>": torch.arange(8.0)}),
    "e.pth": pickled(torch.arange(8.0)[None]),
    "e.bin": pickled({"string_to_param": {"*": torch.arange(8.0)[None]}, "name": "x"}),
    "e.safetensors": save({"<a>": torch.arange(8.0)}, {"x": "y"}),
}


@often(80)
@given(data=st.data(), name=st.sampled_from(sorted(EMBEDDINGS)))
def test_a_file_of_embeddings_is_imported_or_refused(data, name):
    with folder() as place:
        written(place, data.draw(flipped(EMBEDDINGS[name])), name)
        word = ["--word", "<w>"] if name == "e.pth" else []
        told(*run(place, "import-prompts", name, *word, "--provenance", "static", "--out", "out"))


@often(40)
@given(data=st.data())
def test_imported_embeddings_are_an_attack_or_refused(study, data):
    with folder() as place:
        written(place, toml(study | {"attacks": [{"method": "from_file", "parameters": {"file": "e.safetensors"}}], "expect": []}))
        whole = save({"vectors": torch.zeros(1, 1, 32)}, {"tokens": '["<a>"]'})
        (Path(place) / "e.safetensors").write_bytes(data.draw(flipped(whole)))
        told(*run(place, "run", "study.toml", "--dry-run"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return classifier_folder(tmp_path_factory.mktemp("judge") / "judge", "vit")


@often(40)
@given(data=st.data())
def test_a_detector_folder_is_opened_or_refused(study, judge, data):
    asked = {"method": "image_classifier", "model": "judge", "labels": {"style:ink": 0, "style:fluent": 1}}
    with folder() as place:
        written(place, toml(study | {"detectors": study["detectors"] | {"judge": asked}}))
        shutil.copytree(judge, Path(place) / "judge")
        file = Path(place) / "judge" / data.draw(st.sampled_from(["config.json", "preprocessor_config.json", "model.safetensors"]))
        content = file.read_bytes()
        values = swapped(json.loads(content)).map(json.dumps).map(str.encode) if file.suffix == ".json" else flipped(content)
        file.write_bytes(data.draw(st.one_of(values, flipped(content))))
        told(*run(place, "run", "study.toml", "--dry-run"))
