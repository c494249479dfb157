"""Low-rank adaptors: their strength is read from where trainers write it, and what is more than a LoRA is never merged in part."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from tests.models import given
from workbench.errors import ModelError
from workbench.models import formats
from workbench.registry import method

FIRST = f"{given.BLOCK}.attn2.to_k"


@pytest.fixture(scope="module")
def adaptors(own):
    return given.halves(own)


def expected(own, adaptors, factor):
    """{parameter: merged weight}, added up module by module; factor of the module, or one for all."""
    result = {}
    for module, (down, up) in adaptors.items():
        change = torch.zeros(up.shape[0], down.shape[1])
        for part in range(down.shape[0]):
            change += torch.outer(up[:, part], down[part])
        result[f"unet.{module}.weight"] = own[f"{module}.weight"] + (factor[module] if isinstance(factor, dict) else factor) * change
    return result


def agrees(found, wanted):
    return found.tensors.keys() == wanted.keys() and all(
        torch.allclose(found.tensors[name], value, atol=1e-5) for name, value in wanted.items()
    )


def test_peft_folders_have_the_strength_of_their_configuration(still, own, adaptors, tmp_path):
    factors = {
        "plain": ({"r": 2, "lora_alpha": 8}, 4.0),
        "rslora": ({"r": 2, "lora_alpha": 8, "use_rslora": True}, 8 / math.sqrt(2)),
        "other": ({"r": 2, "lora_alpha": 1}, 0.5),
    }
    for name, (config, factor) in factors.items():
        found = formats.read(given.peft_folder(tmp_path / name, adaptors, **config), still)
        formats.check(found, still)
        assert agrees(found, expected(own, adaptors, factor)), name
        assert found.factors == [pytest.approx(factor)] and found.container == "PEFT folder"
        assert f"with the factor {factor:g} (alpha " in found.notes[0] and "from adapter_config.json)" in found.notes[0]


def test_patterns_of_rank_and_alpha_hold_for_the_modules_they_name(still, own, adaptors, tmp_path):
    ranks = {module: 1 if module.endswith("to_v") else 2 for module in adaptors}
    cut = {module: (down[: ranks[module]], up[:, : ranks[module]]) for module, (down, up) in adaptors.items()}
    alphas = {FIRST: 16, "mid_block": 5, "attn2.to_v": 3}
    config = {"r": 2, "lora_alpha": 8, "rank_pattern": {"to_v": 1}, "alpha_pattern": alphas}
    found = formats.read(given.peft_folder(tmp_path / "x", cut, **config), still)
    wanted = {module: 16 / 2 if module == FIRST else 3 / 1 if module.endswith("to_v") else 8 / 2 for module in cut}
    assert agrees(found, expected(own, cut, wanted)) and found.factors == [3.0, 4.0, 8.0]
    assert "4 with the factor 3 (alpha 3 / rank 1, from adapter_config.json)" in found.notes[0]
    assert "1 with the factor 8 (alpha 16 / rank 2" in found.notes[0]
    rslora = formats.read(given.peft_folder(tmp_path / "y", cut, **config, use_rslora=True), still)
    assert agrees(rslora, expected(own, cut, {module: f * math.sqrt(ranks[module]) for module, f in wanted.items()}))


def test_the_first_pattern_that_fits_counts_and_a_part_of_a_name_is_none(still, own, adaptors, tmp_path):
    # ^ is the beginning of the whole name: it fits the first module alone
    alphas = {"o_k": 100, "^attn2.to_k": 50, f"^{FIRST}": 8, "to_k": 4, "attn2.to_k": 6}
    config = {"r": 2, "lora_alpha": 2, "alpha_pattern": alphas}
    found = formats.read(given.peft_folder(tmp_path / "x", adaptors, **config), still)
    wanted = {module: 4.0 if module == FIRST else 2.0 if module.endswith("to_k") else 1.0 for module in adaptors}
    assert agrees(found, expected(own, adaptors, wanted)) and found.factors == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("metadata", "factor", "where"),
    [
        ({"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 8})}, 4.0, "lora_adapter_metadata in its header"),
        ({"lora_adapter_metadata": json.dumps({"r": 2, "lora_alpha": 6})}, 3.0, "lora_adapter_metadata in its header"),
        (
            {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.use_rslora": True, "text_encoder.lora_alpha": 2})},
            8 / math.sqrt(2),
            "rslora",
        ),
        ({"lora_alpha": "8"}, 4.0, "lora_alpha in its header"),
        ({"ss_network_alpha": "4.0", "ss_network_dim": "2"}, 2.0, "ss_network_alpha in its header"),
        ({"rank": "2", "alpha": "1.0", "prompts": "a,b"}, 0.5, "alpha in its header"),
        ({"alpha": "0.7", "seed": "7"}, 1.0, "1 is assumed"),
        ({"ss_network_alpha": "None", "ss_network_dim": "Dynamic"}, 1.0, "1 is assumed"),
        ({}, 1.0, "No alpha is given, neither in the file nor in a configuration beside it: 1 is assumed."),
    ],
)
def test_the_header_of_a_file_says_its_strength(still, own, adaptors, tmp_path, metadata, factor, where):
    save_file(given.peft(adaptors, "unet."), tmp_path / "lora.safetensors", metadata)
    found = formats.read(tmp_path / "lora.safetensors", still)
    assert agrees(found, expected(own, adaptors, factor)) and where in found.notes[0]


def test_an_alpha_of_the_module_itself_counts_before_any_header(still, own, adaptors, tmp_path):
    content = {}
    for place, (module, (down, up)) in enumerate(adaptors.items()):
        start = f"lora_unet_{module.replace('.', '_')}"
        content |= {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up, f"{start}.alpha": torch.tensor(float(place + 1))}
    save_file(content, tmp_path / "spm.safetensors", {"ss_network_alpha": "100", "ss_network_dim": "64"})
    found = formats.read(tmp_path / "spm.safetensors", still)
    assert agrees(found, expected(own, adaptors, {module: (place + 1) / 2 for place, module in enumerate(adaptors)}))
    assert "the others with 5 further factors" in found.notes[0] and "here it is constant" in found.notes[0]


@pytest.mark.parametrize("multiplier", [-1.0, 0.5, 2.0])
def test_a_multiplier_counts_every_adaptor_and_minus_one_takes_it_away(still, own, adaptors, tmp_path, multiplier):
    folder = tmp_path / "lora"
    folder.mkdir()
    save_file(given.peft(adaptors, "unet."), folder / "pytorch_lora_weights.safetensors")
    one = method("erasers", "from_checkpoint")
    made = one.call(still, [], one.parameters(path=str(folder), multiplier=multiplier))
    wanted = expected(own, adaptors, multiplier)
    assert made.keys() == wanted.keys() and all(torch.allclose(made[name], value, atol=1e-5) for name, value in wanted.items())
    assert f"Each counts {multiplier:g} times" in formats.read(folder, still, multiplier).notes[0]


def test_a_multiplier_without_an_adaptor_and_of_zero_are_refused(still, own, adaptors, tmp_path):
    save_file(given.moved(own), tmp_path / "esd.safetensors")
    save_file(given.peft(adaptors), tmp_path / "lora.safetensors")
    for file, multiplier, message in (
        ("esd.safetensors", -1.0, "holds no low-rank adaptor, so a multiplier of -1 has nothing to act on"),
        ("lora.safetensors", 0.0, "equals .* Its adaptors add nothing"),
    ):
        with pytest.raises(ModelError, match=message):
            formats.check(formats.read(tmp_path / file, still, multiplier), still)


def test_adaptors_of_unet_and_text_encoder_in_one_file_and_in_folders(still, own, tmp_path):
    text = {
        name: value for name, value in still.parameters().items() if name.startswith("text_encoder.") and name.endswith("q_proj.weight")
    }
    down, up = torch.full((2, 32), 0.1), torch.full((32, 2), 0.1)
    pair = given.halves(own)
    for name, start in (("a", "text_encoder.text_model."), ("b", "text_encoder.")):
        content = given.peft(pair, "unet.")
        for parameter in text:
            module = start + parameter.removeprefix("text_encoder.").removeprefix("text_model.").removesuffix(".weight")
            content |= {f"{module}.lora_linear_layer.down.weight": down.clone(), f"{module}.lora_linear_layer.up.weight": up.clone()}
        said = {"unet.lora_alpha": 4, "text_encoder.lora_alpha": 6}
        save_file(content, tmp_path / f"{name}.safetensors", {"lora_adapter_metadata": json.dumps(said)})
        found = formats.read(tmp_path / f"{name}.safetensors", still)
        assert found.adaptors == 10 and found.factors == [2.0, 3.0] and found.unexpected == []
        assert all(torch.allclose(found.tensors[one], value + 3 * up @ down, atol=1e-5) for one, value in text.items())
    given.peft_folder(tmp_path / "both" / "unet", pair, r=2, lora_alpha=4)
    inner = {parameter.removeprefix("text_encoder.").removesuffix(".weight"): (down, up) for parameter in text}
    given.peft_folder(tmp_path / "both" / "text_encoder", inner, r=2, lora_alpha=6)
    folder = formats.read(tmp_path / "both", still)
    assert folder.adaptors == 10 and folder.factors == [2.0, 3.0]
    assert all(torch.allclose(folder.tensors[name], value) for name, value in found.tensors.items())


OTHERS = {
    "DoRA": lambda module: {f"{module}.lora_magnitude_vector.weight": torch.ones(16)},
    "DoRA of kohya": lambda module: {f"{module}.dora_scale": torch.ones(16, 1)},
    "LoHa": lambda module: {f"{module}.hada_w1_a": torch.ones(16, 2)},
    "LoKr": lambda module: {f"{module}.lokr_w1": torch.ones(4, 4)},
    "LoCon": lambda module: {f"{module}.lora_mid.weight": torch.ones(2, 2, 1, 1)},
    "LyCORIS": lambda module: {f"{module}.diff": torch.ones(16, 32)},
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("alone", [True, False])
def test_what_is_more_than_a_lora_is_refused_with_unexpected_allowed_too(still, adaptors, tmp_path, kind, alone):
    content = {} if alone else given.peft(adaptors, "unet.")
    save_file(content | OTHERS[kind](f"unet.{FIRST}"), tmp_path / "x.safetensors")
    one = method("erasers", "from_checkpoint")
    for allow in (False, True):
        with pytest.raises(ModelError, match=f"is a {kind.split()[0]}.* more than a low-rank adaptor.*another model"):
            one.call(still, [], one.parameters(path=str(tmp_path / "x.safetensors"), allow_unexpected=allow))
        with pytest.raises(ModelError, match="more than a low-rank adaptor"):
            one.module.check(one.parameters(path=str(tmp_path / "x.safetensors"), allow_unexpected=allow), still)


def test_more_parts_of_a_merged_module_are_never_left_out(still, adaptors, tmp_path):
    for extra in (f"unet.{FIRST}.lora_B.bias", f"unet.{FIRST}.lora_something.weight"):
        save_file(given.peft(adaptors, "unet.") | {extra: torch.ones(16)}, tmp_path / "x.safetensors")
        with pytest.raises(ModelError, match="more than up, down and alpha"):
            formats.read(tmp_path / "x.safetensors", still)
    other = {"text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 32)}
    save_file(given.peft(adaptors, "unet.") | other, tmp_path / "x.safetensors")
    found = formats.read(tmp_path / "x.safetensors", still)
    with pytest.raises(ModelError, match="no place for"):
        formats.check(found, still)
    formats.check(found, still, allow_unexpected=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "is a DoRA"),
        ({"peft_type": "LOHA"}, 'says that this is "LOHA". Only LoRA can be merged'),
        ({"peft_type": 3}, "says that this is 3"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base model's own weights first"),
        ({"init_lora_weights": ["a"]}, "changes the base model's own weights first"),
        ({"layer_replication": [[0, 4]]}, "repeated layers"),
        ({"alora_invocation_tokens": [1]}, "is an aLoRA"),
        ({"lora_alpha": "16"}, 'lora_alpha is "16", no number'),
        ({"lora_alpha": True}, "lora_alpha is true, no number"),
        ({"lora_alpha": float("nan")}, "lora_alpha is NaN, no number"),
        ({"lora_alpha": 10**400}, "no number"),
        ({"r": 0}, "a rank is a whole number from 1 upwards"),
        ({"r": 2.5}, "a rank is a whole number"),
        ({"r": 4}, 'says rank 4 for "down_blocks.*its adaptor has rank 2'),
        ({"use_rslora": "no"}, "use_rslora is neither true nor false"),
        ({"alpha_pattern": [1]}, "alpha_pattern is no mapping"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "which is no plain name"),
        ({"alpha_pattern": {"to_k": None, "to_v": "x"}}, 'alpha_pattern is "x"'),
        ({"rank_pattern": {"to_k": 7}}, "says rank 7"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused(still, adaptors, tmp_path, config, message):
    folder = given.peft_folder(tmp_path / "x", adaptors, **({"r": 2, "lora_alpha": 4} | config))
    with pytest.raises(ModelError, match=message):
        formats.read(folder, still)


@pytest.mark.parametrize("metadata", ["{", "[1]", "3", '{"unet.lora_alpha": "x"}', '{"lora_alpha": Infinity}'])
def test_a_header_that_is_not_understood_is_refused_and_not_taken_for_none(still, adaptors, tmp_path, metadata):
    save_file(given.peft(adaptors, "unet."), tmp_path / "x.safetensors", {"lora_adapter_metadata": metadata})
    with pytest.raises(ModelError, match="strength is not known"):
        formats.read(tmp_path / "x.safetensors", still)


def test_halves_that_are_no_matrices_and_two_adaptors_of_one_weight_are_told(still, adaptors, tmp_path):
    down, up = adaptors[FIRST]
    for content, message in (
        ({"lora_A.weight": torch.tensor(1.0), "lora_B.weight": up}, "is for another base"),
        ({"lora_A.weight": down, "lora_B.weight": torch.ones(16)}, "is for another base"),
        ({"lora_A.weight": torch.ones(0, 32), "lora_B.weight": torch.ones(16, 0)}, "is for another base"),
        ({"lora_A.weight": down, "lora_B.weight": up, "lora.down.weight": down}, "two adaptors of"),
        ({"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.tensor([1.0, 2.0])}, "the alpha of .* is no number"),
        ({"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.tensor(float("nan"))}, "the alpha of .* is no number"),
        ({"lora_A.weight": down}, "down and up are needed"),
    ):
        torch.save({f"unet.{FIRST}.{name}": value for name, value in content.items()}, tmp_path / "x.pt")
        with pytest.raises(ModelError, match=message):
            formats.read(tmp_path / "x.pt", still)


def test_the_stated_strength_belongs_to_the_key_of_a_variant(adaptors, own, tmp_path):
    one = method("erasers", "from_checkpoint")
    save_file(given.peft(adaptors, "unet."), tmp_path / "plain.safetensors")
    save_file(given.moved(own), tmp_path / "esd.safetensors", {"lora_alpha": "4"})
    for file in ("plain.safetensors", "esd.safetensors"):
        assert list(one.module.files(one.parameters(path=file), tmp_path)) == [file]
    digests = set()
    for alpha in ("4", "8"):
        save_file(given.peft(adaptors, "unet."), tmp_path / "x.safetensors", {"lora_alpha": alpha})
        files = one.module.files(one.parameters(path="x.safetensors"), tmp_path)
        assert list(files) == ["x.safetensors", "x.safetensors, LoRA strength"]
        digests.add(files["x.safetensors, LoRA strength"])
    assert len(digests) == 2
    assert one.parameters(path="x").model_dump() == {"path": "x", "allow_unexpected": False}
    assert one.parameters(path="x", multiplier=-1).model_dump()["multiplier"] == -1
