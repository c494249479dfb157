"""Students with fewer channels: both forms compute the same, neurons keep their numbers, files are read with and without indices."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.students import ATTENTION, FF, KEPT, RESNET, file_of, moved, small
from workbench.errors import ModelError
from workbench.models import channels, export, formats, load
from workbench.models.load import from_pipeline
from workbench.models.variants import Variant, applied, describe
from workbench.registry import method

READER = method("erasers", "from_checkpoint")


@pytest.fixture(scope="module")
def exact():
    return from_pipeline(tiny.pipeline(), "tiny", dtype=torch.float64)


def prefixed(tensors):
    return {f"unet.{name}": value for name, value in tensors.items()}


def ask(model, unet=None, weights=None):
    """The noise of fixed latents by a UNet of this kind, and what its ff layer is given."""
    generator, seen = torch.Generator().manual_seed(0), []
    latents = torch.randn(2, *model.latent_shape, generator=generator).to(model.dtype)
    states = torch.randn(2, 16, 32, generator=generator).to(model.dtype)
    unet = unet or model.unet
    handle = unet.get_submodule(FF).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        noise = model.run_on(unet, latents, torch.tensor([3, 700]), states, weights)
    handle.remove()
    return noise, seen[0]


@pytest.mark.parametrize("layers", [[FF], [ATTENTION], [RESNET], [*KEPT]], ids=["ff", "heads", "resnet", "all"])
def test_the_full_form_computes_what_the_smaller_modules_compute(exact, layers):
    kept = {layer: KEPT[layer] for layer in layers}
    student = small(exact.unet, kept)
    groups = channels.of(exact.unet)
    wide = channels.full(groups, prefixed(file_of(student)), kept)
    own = exact.parameters()
    assert all(wide[name].shape == own[name].shape for name in wide)
    weights = {name.removeprefix("unet."): value for name, value in wide.items()}
    (slim, inside), (full, seen) = ask(exact, student), ask(exact, weights=weights)
    assert torch.allclose(slim, full, rtol=0, atol=1e-12) and not torch.allclose(full, ask(exact)[0], atol=1e-4)
    if FF in kept:
        gone = [i for i in range(groups[FF].n) if i not in kept[FF]]
        assert torch.allclose(seen[..., kept[FF]], inside, rtol=0, atol=1e-12) and (seen[..., gone] == 0).all()
    found = channels.removed(groups, wide)
    assert {layer: index.tolist() for layer, index in found.items()} == {
        layer: [i for i in range(groups[layer].n) if i not in index] for layer, index in kept.items()
    }
    back = channels.slim(groups, wide, kept)
    assert all(torch.equal(back[name], value) for name, value in prefixed(file_of(student)).items())


def test_every_layer_of_the_three_kinds_is_a_group(exact):
    groups = channels.of(exact.unet)
    names = [name for name, _ in exact.unet.named_modules()]
    assert list(groups) == [name for name in names if name.endswith(("ff.net.2", ".to_v", ".conv1"))]
    assert (groups[FF].n, groups[ATTENTION].together, groups[RESNET].together) == (128, 4, 2)
    assert channels.removed(groups, exact.parameters()) == {}
    parts = [name for group in groups.values() for name in group.parameters]
    assert len(parts) == len(set(parts)) and set(parts) <= set(exact.parameters())


def written(path, exact, kept=KEPT, metadata=None, leave_out=(), size=0.02):
    tensors = {name: value.float() for name, value in moved(file_of(small(exact.unet, kept)), size).items()}
    save_file({name: value for name, value in tensors.items() if not name.startswith(tuple(leave_out))}, path, metadata)
    return tensors


@pytest.mark.parametrize("said", [True, False], ids=["indices in the header", "by weights"])
def test_a_slim_file_is_a_variant_with_the_numbers_of_the_base(exact, still, tmp_path, said):
    path = tmp_path / "student.safetensors"
    tensors = written(path, exact, metadata={"channels": json.dumps(KEPT)} if said else None)
    found = formats.read(path, still)
    formats.check(found, still)
    assert {layer: (one["kept"], one["by"]) for layer, one in found.fewer.items()} == {
        layer: (len(index), "file" if said else "weights") for layer, index in KEPT.items()
    }
    assert found.shapes == [] and "unet" in found.complete and "84 of 128 feed-forward neurons in 1 layer" in " ".join(found.notes)
    given = READER.parameters(path=str(path))
    READER.module.check(given, still)
    made = READER.call(still, [], given, folder=tmp_path)
    for name, place in {f"unet.{FF}.weight": KEPT[FF], f"unet.{ATTENTION.replace('to_v', 'to_out.0')}.weight": KEPT[ATTENTION]}.items():
        assert torch.equal(made[name][:, place], tensors[name.removeprefix("unet.")])
    with applied(still, Variant("student", weights=dict(made))):
        assert (ask(still)[1][..., [i for i in range(128) if i not in KEPT[FF]]] == 0).all()
    assert describe(still, Variant("student", weights=dict(made)))["others"] == [
        "without 84 of 128 feed-forward neurons in 1 layer, 8 of 16 attention channels in 1 layer, 4 of 16 ResNet channels in 1 layer"
    ]


def test_channels_that_no_longer_look_like_the_bases_are_not_guessed(exact, still, tmp_path):
    path = tmp_path / "student.safetensors"
    tensors = written(path, exact, {FF: KEPT[FF]})
    tensors[f"{FF.replace('net.2', 'net.0.proj')}.weight"].normal_(generator=torch.Generator().manual_seed(1))
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"has 44 of the 128 channels .* cannot be told: channel 0 is nearest .* channels\.json"):
        formats.read(path, still)
    (tmp_path / "channels.json").write_text(json.dumps({FF: KEPT[FF]}))
    assert formats.read(path, still).fewer[FF]["by"] == "file"


def test_two_channels_never_are_the_same_one_of_the_base(exact, still, tmp_path):
    twice = {FF: [*range(40), 7]}
    written(tmp_path / "student.safetensors", exact, twice, size=0.0)
    with pytest.raises(ModelError, match="channel 7 is nearest to channel 7"):
        formats.read(tmp_path / "student.safetensors", still)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({FF: KEPT[FF][:-1]}, "says that 43 channels"),
        ({FF: [*KEPT[FF][:-1], 128]}, "different whole numbers from 0 to 127"),
        ({FF: [*KEPT[FF][:-1], 5]}, "different whole numbers"),
        ({FF: [*KEPT[FF][:-1], 1.5]}, "different whole numbers"),
        ({ATTENTION: [0, 1, 2, 4, 12, 13, 14, 15]}, "are removed 4 at a time"),
        ({RESNET: [1, 2, *range(4, 14)]}, "are removed 2 at a time"),
        ({"down_blocks.9.ff.net.2": [0]}, "no such layer"),
        ([1, 2], "no mapping of layers"),
    ],
)
def test_indices_that_do_not_fit_are_told(exact, still, tmp_path, said, message):
    written(tmp_path / "student.safetensors", exact, metadata={"channels": json.dumps(said)})
    with pytest.raises(ModelError, match=message):
        formats.read(tmp_path / "student.safetensors", still)


def test_a_layer_that_is_small_in_part_is_of_another_shape(exact, still, tmp_path):
    tensors = written(tmp_path / "student.safetensors", exact, {FF: KEPT[FF]})
    tensors[f"{FF}.weight"] = tensors[f"{FF}.weight"][:, :-1].clone()
    save_file(tensors, tmp_path / "student.safetensors")
    with pytest.raises(ModelError, match="is for another base"):
        formats.check(formats.read(tmp_path / "student.safetensors", still), still)


@pytest.fixture
def folder(exact, tmp_path):
    """A UNet folder of a student, as published ones are: the config of the architecture, smaller tensors."""
    path = tmp_path / "unet"
    exact.unet.save_config(path)
    written(path / "diffusion_pytorch_model.safetensors", exact)
    return path


def test_a_unet_folder_without_whole_blocks_is_refused(exact, folder, still):
    formats.check(formats.read(folder, still), still)
    written(folder / "diffusion_pytorch_model.safetensors", exact, leave_out=["mid_block.resnets.0"])
    with pytest.raises(ModelError, match="whole blocks were removed"):
        formats.check(formats.read(folder, still), still)


def test_a_student_is_a_base_where_it_says_which_channels_it_has(tiny_folder, folder, tmp_path):
    base = tmp_path / "model"
    shutil.copytree(tiny_folder, base)
    shutil.rmtree(base / "unet")
    shutil.copytree(folder, base / "unet")
    with pytest.raises(ModelError, match=r"does not say which .* channels\.json .*from_checkpoint"):
        load.load(str(base))
    (base / "unet" / "channels.json").write_text(json.dumps(KEPT))
    model = load.load(str(base))
    groups = channels.of(model.unet)
    slim = channels.slim(groups, model.parameters(), KEPT)
    given = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(slim[f"unet.{name}"], value) for name, value in given.items())
    assert set(channels.removed(groups, model.parameters())) == set(KEPT)


def test_what_is_written_as_a_student_comes_back_to_the_bit(still, tmp_path):
    groups, own = channels.of(still.unet), {name: value.detach() for name, value in still.parameters().items() if name.startswith("unet.")}
    kept = {layer: sorted(index) for layer, index in KEPT.items()}
    wide = channels.full(groups, channels.slim(groups, own, kept), kept)
    changed = {name: value for name, value in wide.items() if not torch.equal(value, own[name])}
    path = export.student(still, changed, tmp_path / "out", {"variant": "student"})
    assert sorted(one.name for one in path.iterdir()) == [
        "channels.json",
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "workbench.json",
    ]
    assert json.loads((path / "channels.json").read_text()) == kept
    for where in (path, path / "diffusion_pytorch_model.safetensors"):
        made = READER.call(still, [], READER.parameters(path=str(where)), folder=tmp_path)
        assert made.keys() == changed.keys() and all(torch.equal(made[name], value) for name, value in changed.items())


def test_a_student_needs_removed_channels_and_a_unet_alone(still, tmp_path):
    own = still.parameters()
    with pytest.raises(ModelError, match="no channel was removed"):
        export.student(still, {"unet.conv_in.bias": own["unet.conv_in.bias"].detach() + 1}, tmp_path / "a", {})
    text = next(name for name in own if name.startswith("text_encoder."))
    with pytest.raises(ModelError, match=re.escape(f'it changes "{text}", too')):
        export.student(still, {text: own[text].detach()}, tmp_path / "b", {})
