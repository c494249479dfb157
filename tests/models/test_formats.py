"""Checkpoints in the formats erasing papers publish, made from the tiny model in the real spelling; what does not fit is told."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from tests import single_file, tiny
from workbench.errors import ModelError
from workbench.models import formats, inspect
from workbench.models.load import from_pipeline
from workbench.models.variants import Variant, applied
from workbench.registry import method

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


def moved(tensors, chosen, seed=1):
    """The tensors, those chosen by name a little away from where they were."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator) if chosen(name) else value.clone()
        for name, value in tensors.items()
    }


def key_value(name):
    return ".attn2.to_k." in name or ".attn2.to_v." in name


@pytest.fixture
def base():
    """The state dict of the tiny UNet."""
    return dict(tiny.pipeline().unet.state_dict())


def read(path, model):
    found = formats.read(path, model)
    formats.check(found, model)
    return found


def erased(path, model, **given):
    one = method("erasers", "from_checkpoint")
    return one.call(model, [], one.parameters(path=str(path), **given))


def test_esd_of_2024_a_partial_bf16_file(base, model, tmp_path):
    part = {name: value.bfloat16() for name, value in moved(base, lambda n: ".attn2." in n).items() if ".attn2." in name}
    save_file(part, tmp_path / "esd.safetensors")
    found = read(tmp_path / "esd.safetensors", model)
    assert found.container == "safetensors" and found.formats == ["diffusers"] and found.complete == []
    assert len(found.tensors) == len(found.changed(model)) == 20 and "bfloat16" in found.notes[0]
    made = erased(tmp_path / "esd.safetensors", model)
    with applied(model, Variant("esd", weights=made)):
        for name, value in part.items():
            assert torch.equal(model.parameters()[f"unet.{name}"].bfloat16(), value)
    rows = inspect.rows(found, model)
    assert inspect.like(rows) == "Only cross-attention: as ESD x changes." and "cannot show" in inspect.base(found, rows)


@pytest.mark.parametrize("wrap", [[], ["state_dict"], ["model"], ["unet"], ["state_dict", "module."], ["unet."]])
def test_whole_unets_in_pickles_however_wrapped(base, model, tmp_path, wrap):
    content = moved(base, key_value)
    for step in reversed(wrap):
        content = {f"{step}{name}": value for name, value in content.items()} if step.endswith(".") else {step: content, "epoch": 3}
    torch.save(content, tmp_path / "uce.pt")
    found = read(tmp_path / "uce.pt", model)
    assert len(found.tensors) == 208 and len(found.changed(model)) == 8 and found.complete == ["unet"]
    assert set(found.peeled) == {step for step in wrap if step != "unet."}
    rows = inspect.rows(found, model)
    assert "UCE" in inspect.like(rows) and inspect.base(found, rows).startswith("200 of 208 tensors of the UNet equal this base")
    save_file(moved(base, lambda name: True), tmp_path / "all.safetensors")
    other = read(tmp_path / "all.safetensors", model)
    assert inspect.base(other, inspect.rows(other, model)).startswith("None of the 208 tensors")


def test_compvis_is_read_without_its_ema_copy(base, model, tmp_path):
    pipe = tiny.pipeline()
    original = {name: value.clone() for name, value in single_file.unet(pipe.unet).items()}
    pipe.unet.load_state_dict(moved(base, lambda n: ".attn1." in n))
    content = {f"model.diffusion_model.{name}": value for name, value in single_file.unet(pipe.unet).items()}
    content |= {"model_ema." + f"diffusion_model.{name}".replace(".", ""): value for name, value in original.items()}
    content |= {f"first_stage_model.{name}": value for name, value in single_file.vae(pipe.vae).items()}
    text = pipe.text_encoder.state_dict()
    content |= {f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": value for name, value in text.items()}
    content["alphas_cumprod"] = torch.ones(1000)
    torch.save({"state_dict": content, "global_step": 5}, tmp_path / "salun.pt")
    found = read(tmp_path / "salun.pt", model)
    assert found.complete == ["unet", "text_encoder"] and found.unexpected == [] and found.ignored["EMA copy"] == 208
    own = pipe.unet.state_dict()
    assert {name: value for name, value in found.tensors.items() if name.startswith("unet.")}.keys() == {f"unet.{name}" for name in own}
    assert all(torch.equal(found.tensors[f"unet.{name}"], value) for name, value in own.items())
    assert set(found.changed(model)) == {f"unet.{name}" for name in base if ".attn1." in name}
    only_ema = {name: value for name, value in content.items() if name.startswith("model_ema")}
    back = {f"model.diffusion_model.{name}": value for name, value in original.items()} | only_ema
    torch.save(back, tmp_path / "trap.pt")
    with pytest.raises(ModelError, match="equals .* Its EMA copy was not read"):
        read(tmp_path / "trap.pt", model)


def test_deltas_of_ac_in_both_spellings(base, model, tmp_path):
    part = {name: value.requires_grad_() for name, value in moved(base, key_value).items() if key_value(name)}
    torch.save({"unet": {name: value.detach() for name, value in part.items()}}, tmp_path / "delta.bin")
    first = read(tmp_path / "delta.bin", model).tensors
    pipe = tiny.pipeline()
    pipe.unet.load_state_dict(base | {name: value.detach() for name, value in part.items()})
    named = {name: value for name, value in single_file.unet(pipe.unet).items() if key_value(name)}
    torch.save({"state_dict": named | {"embed": torch.zeros(1, 32)}}, tmp_path / "delta.ckpt")
    found = formats.read(tmp_path / "delta.ckpt", model)
    assert found.unexpected == ["embed"] and first.keys() == found.tensors.keys()
    assert all(torch.equal(first[name], value) for name, value in found.tensors.items())
    with pytest.raises(ModelError, match='no place for, e.g. "embed"; 8 fit'):
        erased(tmp_path / "delta.ckpt", model)
    assert len(erased(tmp_path / "delta.ckpt", model, allow_unexpected=True)) == 8


def test_text_encoders_as_folder_and_with_aliases(model, tmp_path):
    pipe = tiny.pipeline()
    encoder = pipe.text_encoder
    state = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    changed = moved(state, lambda n: ".mlp." in n)
    encoder.save_pretrained(tmp_path / "te")
    for file in (tmp_path / "te").glob("*.safetensors"):
        file.unlink()
    torch.save({f"text_model.{name}": value for name, value in changed.items()}, tmp_path / "te" / "pytorch_model.bin")
    aliases = {name.replace("embeddings.", "embedding.", 1): value for name, value in changed.items()}
    torch.save({f"text_encoder.text_model.{name}": v for name, v in changed.items()} | aliases, tmp_path / "TextEncoder-x-epoch_1.pt")
    for path, container in ((tmp_path / "te", "text encoder folder"), (tmp_path / "TextEncoder-x-epoch_1.pt", "torch zip")):
        found = read(path, model)
        assert found.container == container and found.complete == ["text_encoder"] and "text encoder" in found.formats
        assert all(".mlp." in name and name.startswith("text_encoder.") for name in found.changed(model)) and found.changed(model)
        assert "AdvUnlearn" in inspect.like(inspect.rows(found, model))
    torch.save({f"text_model.{name}": v for name, v in changed.items()} | {n: v + 1 for n, v in aliases.items()}, tmp_path / "two.pt")
    with pytest.raises(ModelError, match="twice, with different values"):
        formats.read(tmp_path / "two.pt", model)


def test_a_half_precision_file_of_pruned_weights_changes_only_what_is_zero(base, model, tmp_path):
    content, names = {}, [name for name in base if name.endswith(".ff.net.2.weight")]
    for name, value in base.items():
        content[name] = value.half()
        if name in names:
            content[name][:, 3] = 0
            content[name][0, :2] = 0
    torch.save(content, tmp_path / "skill_ratio_0.01_timesteps_10_threshold0.0.pt")
    found = read(tmp_path / "skill_ratio_0.01_timesteps_10_threshold0.0.pt", model)
    rows = inspect.rows(found, model)
    assert {row["parameter"] for row in rows} == {f"unet.{name}" for name in names}
    assert all(row["zeroed"] == row["changed"] and row["zeroed_columns"] == 1 and row["zeroed_rows"] == 0 for row in rows)
    assert "ConceptPrune" in inspect.like(rows)
    (place,) = inspect.by_place(rows, model)
    assert place["place"] == "ff" and place["tensors"] == 4 and place["zeroed"] == sum(row["zeroed"] for row in rows)


def test_the_rank_of_a_change_is_seen(model, tmp_path):
    name = f"{BLOCK}.attn2.to_k.weight"
    weight = model.parameters()[f"unet.{name}"].detach()
    for change, expected in ((torch.outer(torch.arange(1.0, 17), torch.ones(32)), 1.0), (torch.eye(16, 32), 1 / 16)):
        save_file({name: weight + change}, tmp_path / "x.safetensors")
        (row,) = inspect.rows(read(tmp_path / "x.safetensors", model), model)
        assert row["rank_one"] == pytest.approx(expected, abs=0.02)
        assert row["relative_change"] == pytest.approx((change.norm() / weight.norm()).item(), rel=1e-3)


def lora(spelling, names, rank=2):
    generator, content = torch.Generator().manual_seed(0), {}
    for name, shape in names.items():
        down, up = torch.randn(rank, shape[1], generator=generator), torch.randn(shape[0], rank, generator=generator)
        module = name.removesuffix(".weight")
        if spelling == "kohya":
            start = f"lora_unet_{module.replace('.', '_')}"
            content |= {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up, f"{start}.alpha": torch.tensor(1.0)}
        elif spelling == "peft":
            content |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
        elif spelling == "new":
            content |= {f"unet.{module}.lora.down.weight": down, f"unet.{module}.lora.up.weight": up}
        else:
            place, _, leaf = module.rpartition(".")
            content |= {f"{place}.processor.{leaf}_lora.down.weight": down, f"{place}.processor.{leaf}_lora.up.weight": up}
    return content


@pytest.mark.parametrize(("spelling", "scale"), [("kohya", 0.5), ("peft", 1.0), ("new", 1.0), ("old", 1.0)])
def test_low_rank_adaptors_are_merged(base, model, tmp_path, spelling, scale):
    names = {name: tuple(value.shape) for name, value in base.items() if key_value(name)}
    content = lora(spelling, names)
    save_file(content, tmp_path / "lora.safetensors")
    found = read(tmp_path / "lora.safetensors", model)
    halves = list(content.values())
    step = 3 if spelling == "kohya" else 2
    for place, name in enumerate(names):
        down, up = halves[step * place], halves[step * place + 1]
        assert torch.allclose(found.tensors[f"unet.{name}"], base[name] + scale * up @ down, atol=1e-5)
    assert ("SPM as plain LoRA" in found.notes[0]) == (spelling == "kohya") and found.unexpected == []


def test_a_pipeline_folder_and_a_unet_folder(base, model, tmp_path):
    pipe = tiny.pipeline()
    pipe.unet.load_state_dict(moved(base, key_value))
    pipe.save_pretrained(tmp_path / "whole")
    for path, complete in ((tmp_path / "whole", ["unet", "text_encoder"]), (tmp_path / "whole" / "unet", ["unet"])):
        found = read(path, model)
        assert found.complete == complete and len(found.changed(model)) == 8 and found.unexpected == []


def test_what_cannot_be_used_is_told(base, model, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    cases = {
        "none.pt": ({f"layer.{i}": torch.zeros(2) for i in range(3)}, "of 3 names none fits, e.g. layer.0"),
        "same.pt": (base, 'equals "tiny" in all 208 tensors'),
        "wide.pt": ({f"{BLOCK}.attn2.to_k.weight": torch.zeros(16, 768)}, "Its text states are 768 wide, as in Stable Diffusion 1.x"),
        "half.pt": ({f"{BLOCK}.attn2.to_k.lora_A.weight": torch.zeros(2, 32)}, "down and up are needed"),
        "code.pt": ({"unet": Evil()}, "could run code"),
        "tensor.pt": (torch.zeros(3), "holds a Tensor"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ModelError, match=message):
            read(tmp_path / name, model)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"unet": Evil()}))
    (tmp_path / "cut.pt").write_bytes((tmp_path / "same.pt").read_bytes()[:5000])
    for name, message in (("plain.pkl", r"could run code \(builtins.print\)"), ("cut.pt", "damaged")):
        with pytest.raises(ModelError, match=message):
            read(tmp_path / name, model)
    with pytest.raises(ModelError, match="There is no checkpoint"):
        read(tmp_path / "nothing.pt", model)
    for name, content, message in (
        ("receler", {"eraser_config.json": {"eraser_type": "adapter"}}, "Receler"),
        ("other", {"config.json": {"_class_name": "FluxTransformer2DModel"}}, 'holds a "FluxTransformer2DModel"'),
        ("empty", {}, "no checkpoint folder"),
    ):
        (tmp_path / name).mkdir()
        for file, inside in content.items():
            (tmp_path / name / file).write_text(json.dumps(inside))
        with pytest.raises(ModelError, match=message):
            read(tmp_path / name, model)


def test_an_archive_that_unpacks_to_more_than_it_is_stays_closed(model, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    with pytest.raises(ModelError, match="it is not opened"):
        read(tmp_path / "bomb.pt", model)


def test_a_model_with_two_text_encoders_has_a_name_for_each():
    from tests import tiny_xl

    model = from_pipeline(tiny_xl.xl_pipeline(), "tiny xl")
    tables = [one.names(model) for one in formats.FORMATS.values()]
    assert {"unet", "text_encoder", "text_encoder_2"} == {name.partition(".")[0] for table in tables for name in table.values()}
    assert set(model.parameters()) == {name for table in tables for name in table.values()}
