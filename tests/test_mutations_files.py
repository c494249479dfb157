"""Checkpoints, masks, neuron sets and run folders mutated at random: one message, no traceback, no hang, nothing written outside.

What is drawn is the same in every run. More of it: WORKBENCH_MUTATIONS=20 python -m pytest tests/test_mutations_files.py
"""

import io
import json
import shutil
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from tests import tiny
from tests.mutated import flipped, folder, run, swapped, toml
from tests.pages.example_runs import finished
from tests.test_mutations import often, told, written
from tests.tiny_study import STUDY
from workbench.models import masks
from workbench.neurons.sets import NeuronSet

TO_V = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"
READS = "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2.weight"
LAYER = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
DIGEST = "0" * 64


@pytest.fixture(scope="module", autouse=True)
def read_once(tiny_folder):
    """The tiny model is read once; no case changes it."""
    from workbench.models import load

    patch, real = pytest.MonkeyPatch(), load.load
    known = cache(lambda: real(str(tiny_folder)))
    patch.setattr(load, "load", lambda name, *args, **more: known() if name == str(tiny_folder) else real(name, *args, **more))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def study(tiny_folder):
    plain = tomllib.loads(STUDY.format(base=tiny_folder))
    return {key: value for key, value in plain.items() if key != "attacks"}


def pickled(content, **more):
    file = io.BytesIO()
    torch.save(content, file, **more)
    return file.getvalue()


@pytest.fixture(scope="module")
def checkpoints():
    """A small checkpoint in each container."""
    weight = tiny.pipeline().unet.state_dict()[TO_V] * 0.5
    return {
        "plain.safetensors": save({TO_V: weight}, {"format": "pt", "rank": "4"}),
        "wrapped.pt": pickled({"state_dict": {f"unet.{TO_V}": weight}, "epoch": 3}),
        "nested.pt": pickled({f"unet.{TO_V.rsplit('.', 1)[0]}": {"weight": weight}}),
        "old.ckpt": pickled({TO_V: weight}, _use_new_zipfile_serialization=False),
    }


@often(80)
@given(data=st.data(), name=st.sampled_from(["plain.safetensors", "wrapped.pt", "nested.pt", "old.ckpt"]))
def test_a_checkpoint_is_read_or_refused(study, tiny_folder, checkpoints, data, name):
    with folder() as place:
        theirs = {"name": "theirs", "method": "from_checkpoint", "parameters": {"path": name}}
        written(place, toml(study | {"variants": [theirs]}))
        (Path(place) / name).write_bytes(data.draw(flipped(checkpoints[name])))
        told(*run(place, "inspect", name, "--model", tiny_folder))
        told(*run(place, "run", "study.toml", "--dry-run"))


@often(30)
@given(data=st.data(), file=st.sampled_from(["config.json", "diffusion_pytorch_model.safetensors"]))
def test_a_checkpoint_folder_is_read_or_refused(study, tiny_folder, data, file):
    with folder() as place:
        unet = shutil.copytree(Path(tiny_folder) / "unet", Path(place) / "theirs")
        content = (unet / file).read_bytes()
        values = swapped(json.loads(content)).map(json.dumps).map(str.encode) if file.endswith(".json") else flipped(content)
        (unet / file).write_bytes(data.draw(st.one_of(values, flipped(content))))
        told(*run(place, "inspect", "theirs", "--model", tiny_folder))


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    path = tmp_path_factory.mktemp("mask") / "mask.safetensors"
    size = tiny.pipeline().unet.state_dict()[READS.removeprefix("unet.")].shape
    masks.save(path, {READS: torch.rand(size, generator=torch.Generator().manual_seed(0)) < 0.1}, {"base": "tiny", "base_digest": DIGEST})
    return path.read_bytes()


@often(60)
@given(data=st.data())
def test_a_mask_is_read_or_refused(study, tiny_folder, mask, data):
    with folder() as place:
        cut = {"name": "cut", "method": "mask_from_file", "parameters": {"file": "mask.safetensors", "any_base": True}}
        written(place, toml(study | {"variants": [cut]}))
        (Path(place) / "whole.safetensors").write_bytes(mask)
        (Path(place) / "mask.safetensors").write_bytes(data.draw(flipped(mask)))
        told(*run(place, "mask", "show", "mask.safetensors"))
        told(*run(place, "mask", "combine", "mask.safetensors", "whole.safetensors", "--how", "union", "--out", "out.safetensors"))
        told(*run(place, "run", "study.toml", "--dry-run"))


@pytest.fixture(scope="module")
def neurons(tmp_path_factory, tiny_folder):
    from workbench.models.load import source_digest

    path = tmp_path_factory.mktemp("set") / "set.safetensors"
    NeuronSet("mine", source_digest(str(tiny_folder)), {LAYER: np.array([1, 3])}, {"made": "by hand"}).save(path)
    return path.read_bytes()


@often(60)
@given(data=st.data())
def test_a_neuron_set_is_read_or_refused(study, neurons, data):
    with folder() as place:
        written(place, toml(study | {"sets": [{"name": "mine", "file": "set.safetensors"}]}))
        (Path(place) / "whole.safetensors").write_bytes(neurons)
        (Path(place) / "set.safetensors").write_bytes(data.draw(flipped(neurons)))
        told(*run(place, "sets", "show", "set.safetensors"))
        told(*run(place, "sets", "union", "set.safetensors", "whole.safetensors", "--out", "out.safetensors"))
        told(*run(place, "run", "study.toml", "--dry-run"))


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs") / "example")


FILES = ["manifest.json", "status.json", "run.log", "report/report.json", "report/neurons.parquet"]
VERBS = [
    ("status",),
    ("status", "example"),
    ("list", "runs"),
    ("show", "example"),
    ("logs", "example"),
    ("stop", "example"),
    ("report", "example", "--format", "md"),
    ("check", "example", "asr < 0.9"),
    ("diff", "example", "other"),
]


@often(40)
@given(data=st.data(), file=st.sampled_from(FILES))
def test_a_run_folder_is_read_or_refused_by_every_verb(example, data, file):
    with folder() as place:
        for name in ("example", "other"):
            shutil.copytree(example, Path(place) / "runs" / name)
        at = Path(place) / "runs" / "example" / file
        content = at.read_bytes()
        values = swapped(json.loads(content), most=2).map(json.dumps).map(str.encode) if at.suffix == ".json" else flipped(content)
        at.write_bytes(data.draw(st.one_of(values, flipped(content))))
        for verb in VERBS:
            told(*run(place, *verb))
