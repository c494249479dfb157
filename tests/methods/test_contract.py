"""Every registered method runs on the tiny model and keeps the contract of its kind."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pydantic import BaseModel
from typing_extensions import get_protocol_members

import workbench
from tests.reference import same_bits
from workbench.errors import MethodError, PromptError
from workbench.methods import contract
from workbench.methods.attacks import Context
from workbench.models.changes import Change
from workbench.models.masks import cut_incoming, save
from workbench.models.variants import Variant, applied, base_again
from workbench.registry import DECLARATIONS, VERBS, Function, declared, method, methods
from workbench.storage import write_arrays
from workbench.study.prompts import read_prompts

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "cat")]
SETTINGS = {
    "esd": {"iterations": 2, "steps": 3, "trajectories": 2, "batch": 2},
    "ac": {"iterations": 2, "steps": 3, "images": 2, "batch": 2},
    "relearn": {"iterations": 2, "steps": 3, "images": 2, "batch": 2},
    "learned_mask": {"iterations": 2, "steps": 3, "trajectories": 2, "batch": 2},
    "negative_prompt": {"prompt": "ink"},
    "adv_unlearn": {"iterations": 2, "warmup": 1, "steps": 3, "trajectories": 2, "batch": 2, "adversarial_steps": 2},
    "all_but_one": {"iterations": 2, "steps": 3, "trajectories": 2, "batch": 2},
    "null_space": {"tolerance": 1e-3},
    "bilevel": {"iterations": 2, "lower_steps": 1, "steps": 3, "images": 2, "batch": 2},
    "receler": {"iterations": 2, "steps": 3, "trajectories": 2, "batch": 2, "adversarial_steps": 2, "rank": 2},
    "scissorhands": {"iterations": 2, "rounds": 1, "steps": 3, "images": 2, "batch": 2},
    "salun": {"iterations": 2, "steps": 3, "images": 2, "batch": 2},
    "sld": {"concept": "ink"},
    "spm": {"iterations": 2, "steps": 3, "trajectories": 2, "batch": 2},
    "safree": {"concept": "ink"},
    "concept_corrector": {"concept": "ink", "replacement": "owl"},
    "stereo": {"rounds": 1, "erase_iterations": 1, "search_iterations": 1, "iterations": 1, "steps": 3, "images": 2, "batch": 2},
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


@pytest.mark.parametrize("kind", VERBS)
def test_the_protocols_name_what_the_registry_reads(kind):
    stated = [name for protocol in (contract.KINDS[kind], *contract.OPTIONAL[kind]) for name in get_protocol_members(protocol)]
    assert sorted(stated) == sorted(["Parameters", VERBS[kind], *DECLARATIONS[kind]])
    needed = {name for name, form in DECLARATIONS[kind].items() if form.needed}
    assert get_protocol_members(contract.KINDS[kind]) == {"Parameters", VERBS[kind], *needed}
    for protocol in contract.OPTIONAL[kind]:
        for name in get_protocol_members(protocol):
            if isinstance(form := DECLARATIONS[kind][name], Function):
                assert tuple(inspect.signature(getattr(protocol, name)).parameters)[1:] == form.arguments


def test_only_the_registry_reads_attributes_of_a_method_module():
    reads = re.compile(r"(?:method|one|rule|registry\.method\([^)]*\)|\w+\[[^\]]*\])\.module\b(?!\.__)")
    for path in Path(workbench.__file__).parent.rglob("*.py"):
        found = [line for line in path.read_text().splitlines() if reads.search(line)]
        assert path.name in ("registry.py", "method_code.py") or not found, f"{path}: {found}"


def test_every_declaration_is_documented():
    stated = (Path(__file__).parents[2] / "docs" / "develop" / "method-contract.md").read_text()
    known = {name for kind in VERBS for name in DECLARATIONS[kind]}
    assert [name for name in sorted(known) if not re.search(rf"`{name}\b", stated)] == [], "say what it is in the method contract"


def module(kind, **declarations):
    """A module of a kind with all that is needed, changed as said; None leaves something out."""
    needed = {
        "erasers": {"erase": lambda model, pairs, parameters: {}},
        "attacks": {"attack": lambda m, t, p, c: t, "control": lambda m, t, a, p, c: t, "OPTIMISED": False},
        "detectors": {"load": lambda parameters: None},
        "scores": {"score": lambda t, r, e, layer: t, "NEEDS": ("target",), "UNIT": "activation units"},
    }[kind]
    given = {"Parameters": type("Parameters", (BaseModel,), {}), "__file__": "/their/mine.py", "__doc__": "Mine."} | needed | declarations
    return SimpleNamespace(**{name: value for name, value in given.items() if value is not None})


@pytest.mark.parametrize("kind", VERBS)
def test_a_module_with_what_is_needed_is_a_method_with_the_defaults(kind):
    made = declared(kind, "mine", module(kind))
    assert (made.help, made.version if kind != "detectors" else None) == ("Mine.", 1 if kind != "detectors" else None)
    assert not made.reads_files and not made.has_cost and made.passes(None, 3, 20) == 0.0 and made.files(None, ".") == {}
    if kind == "erasers":
        assert made.learns_from(None) == ("prompt", "anchor") and not made.is_mask and made.needs == () and not made.lifts_masks(None)
        assert declared(kind, "mine", module(kind, files=lambda p, folder: {})).learns_from(None) == ()
    if kind == "scores":
        assert made.neutral == 0.0 and made.unit() == "activation units" and made.quantity == "mean_abs"


@pytest.mark.parametrize(
    ("kind", "declarations", "message"),
    [
        ("erasers", {"erase": None}, '/their/mine.py has no "erase"'),
        ("erasers", {"Parameters": 3}, "/their/mine.py: `Parameters` is no pydantic model"),
        ("erasers", {"MASK": "yes"}, "/their/mine.py: `MASK` must be True or False; found 'yes'"),
        ("erasers", {"NEEDS": ("neuron",)}, "/their/mine.py: `NEEDS` must be a tuple of any of neurons"),
        ("erasers", {"NEEDS": "neurons"}, "`NEEDS` must be a tuple"),
        ("erasers", {"VERSION": "2"}, "`VERSION` must be a whole number, at least 1"),
        ("erasers", {"PUBLISHED": {"steps": 3}}, "`PUBLISHED` must be a Published of workbench.study.published"),
        ("erasers", {"passes": lambda parameters, n_pairs: 0.0}, "`passes` must be a function passes(parameters, n, passes_per_image)"),
        ("erasers", {"learns_from": ("prompt",)}, "`learns_from` must be a function learns_from(parameters)"),
        ("attacks", {"OPTIMISED": None}, '/their/mine.py has no "OPTIMISED"'),
        ("attacks", {"OPTIMISED": 1}, "`OPTIMISED` must be True or False"),
        ("attacks", {"control": lambda model: model}, "`control` must be a function control(model, targets, adversarial"),
        ("attacks", {"files": lambda parameters: {}}, "`files` must be a function files(parameters, folder)"),
        ("attacks", {"PUBLISHED": 3}, "`PUBLISHED` must be {parameter: value}"),
        ("detectors", {"load": 3}, "`load` is no function"),
        ("detectors", {"REMEMBERED": "no"}, "`REMEMBERED` must be True or False"),
        ("scores", {"UNIT": None}, '/their/mine.py has no "UNIT"'),
        ("scores", {"UNIT": ""}, "`UNIT` must be what its values count, in words"),
        ("scores", {"NEEDS": ("target", "gradients")}, "`NEEDS` must be a tuple of any of target, reference"),
        ("scores", {"NEUTRAL": "0"}, "`NEUTRAL` must be a number"),
    ],
)
def test_a_wrong_declaration_names_file_and_attribute(kind, declarations, message):
    with pytest.raises(MethodError, match=re.escape(message)):
        declared(kind, "mine", module(kind, **declarations))


def test_an_unknown_method_offers_the_nearest():
    with pytest.raises(MethodError, match='Did you mean "embedding_pgd"'):
        method("attacks", "embeding_pgd")


@pytest.mark.parametrize("name", sorted(methods("erasers")))
def test_every_eraser_changes_parameters_of_the_model_and_leaves_it_as_it_was(model, files, name):
    one = method("erasers", name)
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    with applied(model, Variant("pruned", masks=cut_incoming(model.unet, {layer: [1, 2]}))):
        before = {n: p.detach().clone() for n, p in model.parameters().items()}
        given = {"prune": {layer: [0, 3]}, "folder": files, "retained": ["orange window"]}
        given["detector"] = {"detector": {"method": "emoji"}, "labels": ["style:ink"]}
        changed = one.call(model, PAIRS, one.parameters(**SETTINGS.get(name, {})), **given)
        assert same_bits(before, {n: p.detach() for n, p in model.parameters().items()})
        assert isinstance(changed, Change) or not one.defends
        if isinstance(changed, Change):
            assert changed.tensors and all(value.isfinite().all() for value in changed.tensors.values())
            return
        assert changed and all(before[n].shape == value.shape for n, value in changed.items())
        assert {value.dtype == torch.bool for value in changed.values()} == {one.is_mask}
        assert same_bits(before, {n: p.detach() for n, p in model.parameters().items()})
    assert not any(p.requires_grad for p in model.unet.parameters())


def parents():
    """Erasers whose weights hold where nothing is pruned yet."""
    for name, one in sorted(methods("erasers").items()):
        if not (one.is_mask or one.defends or one.lifts_masks(one.parameters(**SETTINGS.get(name, {})))):
            yield name


@pytest.mark.parametrize("name", parents())
def test_every_eraser_of_weights_can_be_the_parent_of_a_mask(model, files, name):
    one = method("erasers", name)
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    given = one.parameters(**SETTINGS.get(name, {}))
    made = one.call(model, PAIRS, given, prune={layer: [0, 3]}, folder=files, retained=["orange window"])
    changed = {"changes": (made,)} if isinstance(made, Change) else {"weights": dict(made)}
    both = Variant("pruned", "erased", masks=cut_incoming(model.unet, {layer: [1, 2]})).over(Variant("erased", "base", **changed))
    with applied(model, both):
        own = model.parameters()
        assert both.masks and not any(own[parameter][mask].any() for parameter, mask in both.masks.items())
        for parameter, value in both.weights.items():
            left = ~both.masks.get(parameter, torch.zeros_like(value, dtype=torch.bool))
            assert torch.equal(own[parameter][left], value[left])


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
    if made.prefix is not None and one.optimised:
        n_searches = len({tuple(vectors.flatten().tolist()) for vectors in made.prefix})  # one for each half of the prompts, or each prompt
        assert n_searches == (2 if one.shared else 3)
    control = one.control(model, targets, made, parameters, context)
    assert control.control and control.units == targets.units and control.digest() != made.digest()
    if made.prefix is not None and control.prefix is not None:
        assert torch.allclose(made.prefix.norm(dim=-1), control.prefix.norm(dim=-1), rtol=1e-4)


def test_every_optimising_attack_was_published_and_its_values_are_parameters():
    for name, one in methods("attacks").items():
        if one.published is not None:
            settings = one.parameters(**one.published)
            assert one.published.items() <= settings.model_dump().items() and settings != one.parameters()
            assert "Source of PUBLISHED" in one.parameters.__doc__
        assert one.published is not None or not one.optimised, name


def white_box():
    """(name, parameters) of every attack that works on each prompt with the model's gradient; P4D in both forms."""
    for name in sorted(methods("attacks")):
        if methods("attacks")[name].optimised and name != "concept_inversion":
            yield name, {"looks": 0}
    yield "p4d", {"looks": 0, "form": "K"}


@pytest.mark.parametrize(("name", "given"), white_box())
def test_batched_and_alone_lose_the_same_at_first(model, targets, context, name, given):
    one, clean = method("attacks", name), context.clean
    context.base = lambda: base_again(model, {"unet.conv_out.weight": model.unet.conv_out.weight.data / 2})
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
