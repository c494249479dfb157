"""Where a base model comes from and where it goes: folders beside the study, hub ids without a network, devices that are not there."""

import shutil
import time

import pytest
import torch

from workbench.errors import ModelError
from workbench.models import hub, load


def test_a_model_is_looked_for_beside_the_study_first(tiny_folder, model, tmp_path, monkeypatch):
    study, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    study.mkdir(), elsewhere.mkdir()
    shutil.copytree(tiny_folder, study / "mine")
    monkeypatch.chdir(elsewhere)
    assert load.load("mine", beside=study).digest() == model.digest()
    assert load.place("mine", study) == study / "mine" and load.place("mine", elsewhere) is None
    shutil.copytree(tiny_folder, elsewhere / "yours")
    assert load.load("yours", beside=study).digest() == model.digest()
    with pytest.raises(ModelError, match=f"no hub id .*Looked for {study}/theirs, {elsewhere}/theirs"):
        load.load("theirs", beside=study)


def test_a_hub_id_that_is_not_cached_is_refused_at_once_with_the_real_reason(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="As a hub id, it is not in the local cache, and the hub cannot be reached: it is switched off"):
        load.load("nobody/nothing")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    with pytest.raises(ModelError, match="cannot be reached: .*hf download nobody/nothing.* --set model.base=PATH") as told:
        load.load("nobody/nothing")
    assert "model_index.json" not in str(told.value)
    (tmp_path / "models--nobody--nothing").mkdir()
    with pytest.raises(ModelError, match="only a part of it is in the local cache"):
        load.load("nobody/nothing")


def test_the_hub_is_not_waited_for(monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    class Silent:
        def head(self, *_, **__):
            time.sleep(3)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Silent)
    assert hub.unreachable(seconds=0.05) == "no answer within 0.05 s"


def test_a_hub_that_answers_is_asked(monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    class Answering:
        def head(self, *_, **__):
            return "anything"

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Answering)
    assert hub.unreachable() is None


@pytest.mark.parametrize("name", ["banana", "cuda:x", "", "meta"])
def test_what_is_no_device_is_refused_with_what_is_there(name):
    with pytest.raises(ModelError, match="cpu"):
        load.check_device(name)


def test_a_device_that_is_not_there_is_told_before_the_model_is_read(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match='The device "cuda" is not there: this machine has no cuda device.* Possible: cpu'):
        load.load("no such model", device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert load.check_device("cuda") == torch.device("cuda") and load.check_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ModelError, match="has fewer devices of this kind.* Possible: cpu, cuda:0, cuda:1, e.g. --device cuda:1"):
        load.check_device("cuda:7")
    assert load.check_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("what", ["a pipe", "a damaged file", "an empty file"])
def test_a_single_file_that_is_no_model_is_told(tmp_path, what):
    import os

    path = tmp_path / "model.safetensors"
    if what == "a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"\x10" * 40 if what == "a damaged file" else b"")
    with pytest.raises(ModelError, match="is a pipe|cannot be loaded"):
        load.load(str(path))


@pytest.mark.parametrize("content", ["[]", "{", '{"unet": 3}', '{"_class_name": 3, "unet": ["a", "b"]}', "\x00"])
def test_a_folder_whose_index_is_damaged_is_told(tmp_path, content):
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(ModelError):
        load.load(str(tmp_path))
