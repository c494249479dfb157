"""How checkpoints come: wrapped, nested, in shards and folders; what came in the place of one is called by its name."""

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests import tiny
from tests.models import given
from workbench.errors import ModelError
from workbench.models import formats
from workbench.models.formats import container

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 4265380512\n"
NO_DATA = {
    "pointer": (POINTER.encode(), "is a Git LFS pointer, a placeholder for a file of 4,265,380,512 bytes. Get the file itself"),
    "annex": (b"/annex/objects/SHA256E-s4--aa.ckpt\n", "is a git-annex pointer"),
    "page": (b"<!DOCTYPE html><html><body>Quota exceeded</body></html>", "is a web page"),
    "page with a mark": ("\ufeff\n <HTML>Sign in</HTML>".encode(), "is a web page"),
    "page in UTF-16": ("<html>quota</html>".encode("utf-16"), "is a web page"),
    "refusal": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    "text": (b'{"error": "not found"}', "contains text"),
    "nothing": (b"", "is an empty file"),
    "zeros": (bytes(4000), "begins with zeros only: its download was not finished"),
    "gzip": (b"\x1f\x8b\x08\x00aaaaaaaa", "is a gzip archive. Unpack it"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "is a GGUF file"),
}


def read(path, model):
    found = formats.read(path, model)
    formats.check(found, model)
    return found


def values(found, whole):
    """Whether a checkpoint holds exactly these tensors of the UNet."""
    return found.tensors.keys() == {f"unet.{name}" for name in whole} and all(
        torch.equal(found.tensors[f"unet.{name}"], value) for name, value in whole.items()
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("kind", NO_DATA)
def test_what_came_in_the_place_of_a_checkpoint_is_called_by_its_name(still, tmp_path, kind, suffix):
    content, message = NO_DATA[kind]
    path = tmp_path / f"esd{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError) as told:
        formats.read(path, still)
    assert message in str(told.value) and "weights_only" not in str(told.value)
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    path.rename(folder / f"diffusion_pytorch_model{suffix}")
    with pytest.raises(ModelError, match=message[:20]):
        formats.read(folder, still)


def test_a_zip_that_torch_did_not_write_is_to_be_unpacked(still, tmp_path):
    with zipfile.ZipFile(tmp_path / "esd.pt", "w") as archive:
        archive.writestr("esd/esd.safetensors", b"1234")
    with pytest.raises(ModelError, match=r"a zip archive that torch did not write \(esd/esd.safetensors\). Unpack it"):
        formats.read(tmp_path / "esd.pt", still)


def test_a_torch_file_counts_by_its_bytes_and_not_by_its_name(still, own, tmp_path):
    whole = given.moved(own)
    torch.save(whole, tmp_path / "esd.safetensors")
    assert values(read(tmp_path / "esd.safetensors", still), whole)
    torch.save(whole, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    found = read(tmp_path / "old.pt", still)
    assert values(found, whole) and found.container == "torch file"
    save_file(whole, tmp_path / "esd.pt")
    assert read(tmp_path / "esd.pt", still).container == "safetensors"


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("form", ["plain", "zip", "no zip", "with an escape code"])
def test_a_file_that_would_run_code_stays_closed_and_torch_is_not_quoted(still, tmp_path, form):
    path, trace = tmp_path / "evil.safetensors", tmp_path / "was-run"
    if form == "plain":
        path.write_bytes(pickle.dumps({"unet": Evil(trace)}))
    elif form == "with an escape code":
        path.write_bytes(b"\x80\x02cos\nsy\x1b[31mstem\nq\x00.")
    else:
        torch.save({"unet": Evil(trace)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelError) as told:
        formats.read(path, still)
    said = str(told.value)
    assert "could run code" in said and "state_dict()" in said and not trace.exists()
    assert not any(word in said for word in ("weights_only", "torch.load", "safe_globals", "\x1b"))
    assert ("os.sy?" if form == "with an escape code" else "pathlib") in said


def test_a_whole_module_says_what_to_save_in_its_place(still, tmp_path):
    pipe = tiny.pipeline()
    for zipped in (True, False):
        torch.save(pipe.unet, tmp_path / "unet.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ModelError, match=r"is a whole module \(\S*UNet2DConditionModel\).*Save only its state_dict\(\)") as told:
            formats.read(tmp_path / "unet.pt", still)
        assert "weights_only" not in str(told.value) and "\x1b" not in str(told.value)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(ModelError, match=r"is a whole module \(__torch__.TorchScript\)"):
        formats.read(tmp_path / "script.pt", still)


def test_a_truncated_torch_file_is_damaged_and_not_dangerous(still, own, tmp_path):
    torch.save(own, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="is damaged"):
        formats.read(tmp_path / "cut.pt", still)
    torch.save(own, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes((tmp_path / "old.pt").read_bytes()[:-1000])
    with pytest.raises(ModelError, match="is damaged: it ends early"):
        formats.read(tmp_path / "old.pt", still)


def test_a_bare_vector_and_a_list_are_no_weights_by_name(still, tmp_path):
    for content, message in (
        (torch.zeros(1, 32), "holds a Tensor, not weights by name. A learned vector is an attack.*import-prompts"),
        (torch.zeros(2, 2, 2), "holds a Tensor, not weights by name.$"),
        ([torch.zeros(2)], "holds a list"),
        ("text", "holds a str"),
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(ModelError, match=message):
            formats.read(tmp_path / "x.pt", still)


def nested(tensors):
    """{module: {leaf: tensor}} behind `unet.`, as ESD's alternative script saves."""
    found = {}
    for name, value in tensors.items():
        module, leaf = name.rsplit(".", 1)
        found.setdefault(f"unet.{module}", {})[leaf] = value
    return found


def test_esd_by_module_and_leaf_is_joined(still, own, tmp_path):
    part = {name: value for name, value in given.moved(own, lambda n: ".attn2." in n).items() if ".attn2." in name}
    for content in (nested(part), {"state_dict": nested(part)}, nested(part) | {"optimizer": {"state": {0: {"step": torch.ones(1)}}}}):
        torch.save(content, tmp_path / "esd.pt")
        found = read(tmp_path / "esd.pt", still)
        assert "module and leaf" in found.peeled and len(found.changed(still)) == 20 and found.unexpected == []
        assert all(torch.equal(found.tensors[f"unet.{name}"], value) for name, value in part.items())
    one = dict(list(nested(part).items())[:1])
    torch.save(one, tmp_path / "one.pt")
    assert len(read(tmp_path / "one.pt", still).tensors) == 1


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"unet": {}}, {"model_state_dict": {}, "epoch": 3}])
def test_an_empty_mapping_says_that_nothing_was_trained(still, tmp_path, content):
    torch.save(content, tmp_path / "esd.pt")
    with pytest.raises(ModelError, match="is empty: it holds a mapping without a tensor, so nothing was trained"):
        read(tmp_path / "esd.pt", still)


WRAPS = [
    ["module"],
    ["model_state_dict"],
    ["weights"],
    ["model_state_dict", "unet."],
    ["state_dict", "_orig_mod."],
    ["module."],
    ["model."],
    ["model.", "module."],
    ["unet.", "module."],
    ["unet", "state_dict"],
    ["checkpoint", "model", "module."],
]


@pytest.mark.parametrize("wrap", WRAPS, ids=str)
def test_wrappers_and_prefixes_are_peeled_and_said(still, own, tmp_path, wrap):
    whole = given.moved(own)
    content = whole
    for step in reversed(wrap):
        content = {f"{step}{name}": value for name, value in content.items()} if step.endswith(".") else {step: content}
    if not wrap[0].endswith("."):
        content |= (
            {"epoch": 3, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}}
            if wrap[0]
            in (
                "module",
                "model_state_dict",
            )
            else {"epoch": 3}
        )
    torch.save(content, tmp_path / "x.pt")
    found = read(tmp_path / "x.pt", still)
    assert values(found, whole) and found.unexpected == []
    assert {step for step in wrap if step != "unet."} <= set(found.peeled)


def test_an_ema_copy_is_never_taken_for_the_weights(still, own, tmp_path):
    for name in ("ema", "params_ema", "model_ema"):
        torch.save({name: given.moved(own), "epoch": 1}, tmp_path / "x.pt")
        with pytest.raises(ModelError, match=f"none fits, e.g. no tensors at all.*Left aside: .*{name}"):
            read(tmp_path / "x.pt", still)


def test_two_mappings_of_unknown_names_are_not_chosen_between(still, own, tmp_path):
    torch.save({"first": given.moved(own), "second": given.moved(own, seed=2)}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="of 416 names none fits, e.g. first.conv_in.weight"):
        read(tmp_path / "x.pt", still)


def test_a_mapping_that_holds_itself_ends(still, tmp_path):
    for names in (["state_dict"], ["unet"], ["anything"], ["state_dict", "model"], ["unet", "state_dict"]):
        loop = inner = {}
        for name in names[:-1]:
            inner[name] = inner = {}
        inner[names[-1]] = loop
        torch.save(loop, tmp_path / "loop.pt")
        with pytest.raises(ModelError, match="holds itself|none fits"):
            read(tmp_path / "loop.pt", still)
    deep = {}
    for _ in range(40):
        deep = {"state_dict": deep}
    torch.save(deep, tmp_path / "deep.pt")
    with pytest.raises(ModelError, match="wrapped more than 12 times"):
        read(tmp_path / "deep.pt", still)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_read_by_their_index(still, own, tmp_path, suffix):
    whole = given.moved(own)
    found = read(given.sharded(tmp_path / "unet", whole, suffix=suffix), still)
    assert values(found, whole) and found.complete == ["unet"] and "3 shards were read by their index." in found.notes


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_missing_shard_is_named(still, own, tmp_path, suffix):
    folder = given.sharded(tmp_path / "unet", own, n=4, suffix=suffix)
    (folder / f"diffusion_pytorch_model-00001-of-00004.{suffix}").unlink()
    with pytest.raises(ModelError, match="shard 1 of 4 is missing"):
        formats.read(folder, still)
    (folder / f"diffusion_pytorch_model-00003-of-00004.{suffix}").unlink()
    with pytest.raises(ModelError, match="shards 1, 3 of 4 are missing"):
        formats.read(folder, still)


def test_a_whole_file_beside_shards_is_ambiguous(still, own, tmp_path):
    folder = given.sharded(tmp_path / "unet", given.moved(own))
    save_file(own, folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelError, match="beside shards of one .*cannot be told which is meant"):
        formats.read(folder, still)
    for shard in folder.glob("*-of-*"):
        shard.unlink()
    with pytest.raises(ModelError, match="index.json.*cannot be told which is meant"):
        formats.read(folder, still)
    (folder / "diffusion_pytorch_model.safetensors.index.json").unlink()
    assert len(formats.read(folder, still).tensors) == 208


def test_shards_of_two_saves_and_a_wrong_index_are_told(still, own, tmp_path):
    folder = given.sharded(tmp_path / "a", own, n=2)
    other = given.sharded(tmp_path / "b", own, n=3)
    shutil.copy(next(other.glob("*-00001-of-*")), folder)
    with pytest.raises(ModelError, match="shards of more than one checkpoint"):
        formats.read(folder, still)
    index = other / "diffusion_pytorch_model.safetensors.index.json"
    text = json.loads(index.read_text())
    for weight_map, message in (
        (None, "has no weight_map"),
        ({"a": 3}, "has no weight_map"),
        ({"a": "../../etc/passwd"}, "names the shard .*which does not belong to it"),
        (dict(list(text["weight_map"].items())[:-1]), "index does not fit its shards: 0 names are not where it says, 1 are not in it"),
        (text["weight_map"] | {"more": next(iter(text["weight_map"].values()))}, "1 names are not where it says"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ModelError, match=message):
            formats.read(other, still)
    index.unlink()
    assert values(read(given.sharded(tmp_path / "c", given.moved(own)), still), given.moved(own))
    assert "3 shards without an index were read." in formats.read(other, still).notes


def test_a_shard_or_an_index_alone_is_a_part(still, own, tmp_path):
    folder = given.sharded(tmp_path / "unet", own)
    with pytest.raises(ModelError, match="is shard 2 of 3: a part of a checkpoint. Give the folder"):
        formats.read(folder / "diffusion_pytorch_model-00002-of-00003.safetensors", still)
    with pytest.raises(ModelError, match="is the index of a sharded checkpoint. Give the folder"):
        formats.read(folder / "diffusion_pytorch_model.safetensors.index.json", still)


def test_two_files_of_weights_in_one_folder_are_not_merged(still, own, tmp_path):
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    save_file(given.moved(own), folder / "diffusion_pytorch_model.safetensors")
    save_file({name: value + 1 for name, value in own.items()}, folder / "zz-backup.safetensors")
    found = read(folder, still)
    assert values(found, given.moved(own)) and any("zz-backup.safetensors, which were not read" in note for note in found.notes)
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "erased.safetensors")
    with pytest.raises(ModelError, match="holds 2 files of weights .*cannot be told which is meant"):
        formats.read(folder, still)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[1]", "holds a list; a mapping"),
        ("\udcff", "is not JSON"),
        ('{"architectures": 3}', "does not name its class"),
        ('{"architectures": [3]}', "does not name its class"),
        ('{"architectures": null}', "does not name its class"),
        ('{"_class_name": {"a": 1}}', "does not name its class"),
        ('{"architectures": "FluxTransformer2DModel"}', 'holds a "FluxTransformer2DModel"'),
    ],
)
def test_a_configuration_that_is_none_is_told(still, tmp_path, config, message):
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "config.json").write_bytes(config.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=message):
        formats.read(folder, still)
    for name in ("model_index.json", "adapter_config.json"):
        if message not in ("does not name its class",) and "Flux" not in message:
            (folder / "config.json").rename(folder / name)
            with pytest.raises(ModelError, match=message):
                formats.read(folder, still)
            (folder / name).rename(folder / "config.json")


def test_folders_without_a_configuration_give_their_one_file(still, own, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    with pytest.raises(ModelError, match="is no checkpoint folder: it has no model_index.json, no config.json and no adapter_config.json"):
        formats.read(folder, still)
    whole = given.moved(own)
    save_file({name: value for name, value in whole.items() if given.key_value(name)}, folder / "uce_sd_weights.safetensors")
    found = read(folder, still)
    assert len(found.changed(still)) == 8 and found.container == "safetensors uce_sd_weights.safetensors in a folder"
    save_file(whole, folder / "esd_sd_weights.safetensors")
    with pytest.raises(ModelError, match="holds 2 files of weights .*Give one of them"):
        formats.read(folder, still)
    (tmp_path / "outer").mkdir()
    folder.rename(tmp_path / "outer" / "run-1")
    with pytest.raises(ModelError, match="Its folders run-1 hold weights"):
        formats.read(tmp_path / "outer", still)
    bare = given.sharded(tmp_path / "bare", whole)
    (bare / "config.json").unlink()
    assert values(read(bare, still), whole)


def test_a_pipeline_without_a_unet_or_text_encoder_is_told(still, tmp_path):
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match="without the folders unet/ or text_encoder/"):
        formats.read(tmp_path, still)


def test_what_may_not_be_read_is_one_sentence(still, own, tmp_path, monkeypatch):
    save_file(given.moved(own), tmp_path / "x.safetensors")

    def closed(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", closed)
        for read_it in (lambda path: formats.read(path, still), container.header):
            with pytest.raises(ModelError, match="x.safetensors cannot be read: Permission denied"):
                read_it(tmp_path / "x.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(container, "file_digest", closed)
        for path in (tmp_path / "x.safetensors", tmp_path):
            with pytest.raises(ModelError, match="cannot be read: Permission denied"):
                container.digest(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", closed)
        with pytest.raises(ModelError, match="cannot be read: Permission denied"):
            formats.read(tmp_path, still)


def test_names_of_a_file_are_only_looked_up(still, tmp_path):
    torch.save({1: torch.zeros(2), ("a", 2): torch.zeros(2)}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="of 2 names none fits"):
        read(tmp_path / "x.pt", still)
    buffer = io.BytesIO()
    torch.save({f"layer.{n}": torch.zeros(1) for n in range(2000)}, buffer)
    (tmp_path / "many.pt").write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match="of 2000 names none fits"):
        read(tmp_path / "many.pt", still)
