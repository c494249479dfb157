"""Every registered method runs on the tiny model and keeps the contract of its kind."""

import re
from pathlib import Path

import pytest
import torch

import workbench
from tests.reference import same_bits
from workbench.errors import MethodError, PromptError
from workbench.methods.attacks import Context
from workbench.models.masks import cut_incoming, save
from workbench.models.variants import Variant, applied, exchanged
from workbench.registry import VERBS, method, methods
from workbench.storage import write_arrays
from workbench.study.prompts import read_prompts

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "cat")]
SETTINGS = {
    "esd": {"iterations": 2, "steps": 3, "trajectories": 2, "batch": 2},
    "ac": {"iterations": 2, "steps": 3, "images": 2, "batch": 2},
    "relearn": {"iterations": 2, "steps": 3, "images": 2, "batch": 2},
    "learned_mask": {"iterations": 2, "steps": 3, "trajectories": 2, "batch": 2},
    "cad": {"steps": 3, "trajectories": 2},
    "mask_from_file": {"file": "mask.safetensors"},
    "from_checkpoint": {"path": "esd.safetensors"},
    **dict.fromkeys(("conceptprune", "fia", "wanda"), {"steps": 3, "calls": 2}),
    "embedding_pgd": {"iterations": 3},
    "unlearn_diff_atk": {"timesteps": 2, "iterations": 2},
    "concept_inversion": {"iterations": 3},
    "p4d": {"iterations": 3},
    "ring_a_bell": {"population": 8, "generations": 3},
    "paraphrase": {"wordings": ["black outline"], "others": ["water colour"]},
    "from_file": {"file": "given.csv"},
}


@pytest.fixture
def targets(tmp_path):
    (tmp_path / "t.csv").write_text("unit,prompt,seed\na,owl in ink style,1\nb,cat in ink style,2\nc,house in ink,3\n")
    (tmp_path / "given.csv").write_text("unit,prompt\nc,silver house\na,yellow owl\nb,planet cat\n")
    return read_prompts(tmp_path / "t.csv", "target", "target")


@pytest.fixture
def context(model, tmp_path):
    return Context(["ink"], "erased", torch.randn(3, *model.latent_shape), folder=tmp_path)


@pytest.fixture
def files(model, tmp_path):
    """A folder with what erasers read from files."""
    save(tmp_path / "mask.safetensors", {"unet.conv_in.bias": torch.arange(16) < 4}, {})
    write_arrays(tmp_path / "esd.safetensors", {"conv_in.bias": torch.ones(16)})
    return tmp_path


@pytest.mark.parametrize("kind", VERBS)
def test_every_method_has_help_and_parameters_with_meanings(kind):
    for one in methods(kind).values():
        assert one.help.endswith((".", "?")) and one.parameters.model_config["extra"] == "forbid"


@pytest.mark.parametrize("name", sorted(methods("scores")))
def test_every_score_declares_its_unit(name):
    unit = methods("scores")[name].module.UNIT
    assert isinstance(unit, str) and unit == unit.strip() and unit and not unit.endswith(".")


def read_of_modules():
    """Names of the attributes that the workbench reads of a method's module."""
    found = set()
    for path in Path(workbench.__file__).parent.rglob("*.py"):
        text = path.read_text()
        found |= set(re.findall(r'(?:getattr|hasattr)\((?:[^()]|\([^()]*\)|\[[^\]]*\])*?\.?module, "(\w+)"', text))
        found |= set(re.findall(r"\b(?:method|one|rule|[a-z_.]*\)|[a-z]+\[[^\]]*\])\.module\.(\w+)", text))
    return found


def test_every_attribute_that_is_read_of_a_module_is_documented():
    stated = (Path(__file__).parents[2] / "docs" / "develop" / "method-contract.md").read_text()
    read = {name for name in read_of_modules() if not name.startswith("__")} - {"out_features"}
    assert {"VERSION", "PUBLISHED", "NO_PRESET", "learns_from", "check", "passes", "files", "MASK", "SHARED", "NEUTRAL"} <= read
    said = {name for name in read if re.search(rf"`{name}\b", stated)}
    assert read - said <= {"NEEDS"}, "say what it is in docs/develop/method-contract.md"
    assert "NEEDS says which" in (Path(workbench.__file__).parent / "methods" / "scores" / "__init__.py").read_text()


def test_an_unknown_method_offers_the_nearest():
    with pytest.raises(MethodError, match='Did you mean "embedding_pgd"'):
        method("attacks", "embeding_pgd")


@pytest.mark.parametrize("name", sorted(methods("erasers")))
def test_every_eraser_changes_parameters_of_the_model_and_leaves_it_as_it_was(model, files, name):
    one = method("erasers", name)
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    with applied(model, Variant("pruned", masks=cut_incoming(model.unet, {layer: [1, 2]}))):
        before = {n: p.detach().clone() for n, p in model.parameters().items()}
        changed = one.call(model, PAIRS, one.parameters(**SETTINGS.get(name, {})), prune={layer: [0, 3]}, folder=files)
        assert changed and all(before[n].shape == value.shape for n, value in changed.items())
        assert {value.dtype == torch.bool for value in changed.values()} == {getattr(one.module, "MASK", False)}
        assert same_bits(before, {n: p.detach() for n, p in model.parameters().items()})
    assert not any(p.requires_grad for p in model.unet.parameters())


@pytest.mark.parametrize(("modules", "n"), [("x", 20), ("x-strict", 8), ("u", 122)])
def test_esd_trains_exactly_the_layers_it_says(model, modules, n):
    from workbench.methods.erasers.esd import trained_names

    assert len(trained_names(model.unet, modules)) == n


@pytest.mark.parametrize("form", ["anchor", "concept", "empty"])
def test_esd_lowers_its_own_loss(model, form):
    one, losses = method("erasers", "esd"), []
    settings = one.parameters(form=form, iterations=60, steps=3, trajectories=2, batch=4, learning_rate=3e-3, modules="u")
    one.call(model, PAIRS, settings, progress=lambda step, of, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_eraser_without_pairs_or_neurons_is_refused(model):
    with pytest.raises(MethodError, match="gives none"):
        method("erasers", "esd").call(model, [], method("erasers", "esd").parameters())
    with pytest.raises(MethodError, match="no neurons to cut"):
        method("erasers", "prune_neurons").call(model, [], method("erasers", "prune_neurons").parameters())


@pytest.mark.parametrize("name", sorted(methods("attacks")))
def test_every_attack_is_seeded_keeps_its_rows_and_brings_a_control(model, targets, context, name):
    one = method("attacks", name)
    parameters = one.parameters(**SETTINGS.get(name, {}))
    made = one.call(model, targets, parameters, context)
    again = one.call(model, targets, parameters, context)
    assert made.digest() == again.digest() and made.digest() != targets.digest()
    assert made.units == targets.units and made.kind == "adversarial"
    if made.prefix is not None and one.module.OPTIMISED:
        n_searches = len({tuple(vectors.flatten().tolist()) for vectors in made.prefix})  # one for each half of the prompts, or each prompt
        assert n_searches == (2 if getattr(one.module, "SHARED", False) else 3)
    control = one.module.control(model, targets, made, parameters, context)
    assert control.control and control.units == targets.units and control.digest() != made.digest()
    if made.prefix is not None and control.prefix is not None:
        assert torch.allclose(made.prefix.norm(dim=-1), control.prefix.norm(dim=-1), rtol=1e-4)


def test_every_optimising_attack_was_published_and_its_values_are_parameters():
    for name, one in methods("attacks").items():
        if hasattr(one.module, "PUBLISHED"):
            settings = one.parameters(**one.module.PUBLISHED)
            assert one.module.PUBLISHED.items() <= settings.model_dump().items() and settings != one.parameters()
            assert "Source of PUBLISHED" in one.parameters.__doc__
        assert hasattr(one.module, "PUBLISHED") or not one.module.OPTIMISED, name


def white_box():
    """(name, parameters) of every attack that works on each prompt with the model's gradient; P4D in both forms."""
    for name in sorted(methods("attacks")):
        if methods("attacks")[name].module.OPTIMISED and name != "concept_inversion":
            yield name, {"looks": 0}
    yield "p4d", {"looks": 0, "form": "K"}


@pytest.mark.parametrize(("name", "given"), white_box())
def test_batched_and_alone_lose_the_same_at_first(model, targets, context, name, given):
    one, clean = method("attacks", name), context.clean
    context.base = lambda: exchanged(model, {"unet.conv_out.weight": model.unet.conv_out.weight.data / 2})
    parameters = one.parameters(**SETTINGS[name] | given)

    def first_losses(rows):
        context.clean, context.log = clean[rows], []
        one.call(model, targets.picked(rows), parameters, context)
        return {row["id"]: row["loss"] for row in context.log if row["iteration"] == 1}

    together = first_losses([0, 1, 2])
    alone = [first_losses([row]) for row in range(3)]
    assert together == pytest.approx(alone[0] | alone[1] | alone[2], abs=1e-5)
    assert len(together) == 3 and min(together.values()) > 1e-4 and len(set(together.values())) == 3


def test_pgd_lowers_the_loss_it_minimises(model, targets, context):
    one = method("attacks", "embedding_pgd")
    one.call(model, targets, one.parameters(iterations=80, step=0.1), context)
    losses = [row["loss"] for row in context.log]
    assert len(losses) == 80 * 3
    assert sum(losses[-60:]) < sum(losses[:60])


def test_random_tokens_never_use_a_name(model, targets, context):
    one = method("attacks", "random_tokens")
    context.names = ["garden"]
    for seed in range(20):
        prompts = one.call(model, targets, one.parameters(seed=seed), context).prompts
        assert not any("garden" in prompt for prompt in prompts)


def test_a_paraphrase_with_a_name_is_refused(model, targets, context):
    one = method("attacks", "paraphrase")
    with pytest.raises(MethodError, match="uses a name"):
        one.call(model, targets, one.parameters(wordings=["blue ink"], others=["x"]), context)


def test_a_file_that_misses_a_unit_is_refused(model, targets, context, tmp_path):
    (tmp_path / "given.csv").write_text("unit,prompt\na,owl\n")
    one = method("attacks", "from_file")
    with pytest.raises(PromptError, match="no prompt for 2 units"):
        one.call(model, targets, one.parameters(file="given.csv"), context)
