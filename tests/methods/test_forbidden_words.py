"""What attacks may not say: the concept's names, and words a study forbids besides."""

import pytest

from tests.methods.attacked import in_vain
from tests.methods.test_contract import SETTINGS
from tests.study.test_attack_names import INK, P4D, keys, study
from workbench.errors import MethodError
from workbench.execution import plan as planning
from workbench.methods.attacks import Context
from workbench.registry import method

IN_WORDS = ("random_tokens", "ring_a_bell", "unlearn_diff_atk", "p4d")


def said(model, targets, context, name):
    """The words that an attack and its control add to the target prompts."""
    one = method("attacks", name)
    parameters = one.parameters(**SETTINGS.get(name, {}))
    made = one.call(model, targets, parameters, context)
    controls = one.control(model, targets, made, parameters, context)
    own = {word for prompt in targets.prompts for word in prompt.split()}
    return {word for prompt in made.prompts + controls.prompts for word in prompt.split()} - own


@pytest.mark.parametrize("name", IN_WORDS)
def test_no_forbidden_word_is_said_by_an_attack_or_its_control(model, targets, name):
    import torch

    clean = torch.randn(len(targets), *model.latent_shape, generator=torch.Generator().manual_seed(0))

    def context(*forbidden):
        return Context(["ink", *forbidden], "erased", clean, in_vain, called=["ink"])

    free = said(model, targets, context(), name)
    few = sorted(free)[:4]
    bound = said(model, targets, context(*few), name)
    assert free and bound and not bound & set(few)


def test_a_forbidden_word_is_no_name_to_be_replaced_and_no_wording(model, targets):
    one = method("attacks", "paraphrase")
    context = Context(["ink", "style"], called=["ink"])
    made = one.call(model, targets, one.parameters(wordings=["black outline"], others=["x"]), context)
    assert "style" in made.prompts[0] and "ink" not in made.prompts[0]
    with pytest.raises(MethodError, match="or a forbidden word"):
        one.call(model, targets, one.parameters(wordings=["outline style"], others=["x"]), context)
    assert Context(["ink"]).called == ["ink"]


def test_a_study_forbids_its_names_and_may_forbid_more_which_changes_the_attacks_alone():
    plain, more = study(P4D), study(P4D, concept=INK["concept"] | {"forbidden": ["sepia"]})
    assert plain.concept.not_for_attacks == INK["concept"]["names"]
    assert more.concept.not_for_attacks == [*INK["concept"]["names"], "sepia"]
    assert "forbidden" not in plain.model_dump(mode="json")["concept"]
    changed = {node for node, key in keys(more).items() if keys(plain)[node] != key}
    assert "attack:p4d@erased" in changed and all("p4d@erased" in node for node in changed)
    assert planning.build(more, "model", 10).node("attack:p4d@erased").parameters["forbidden"] == ["sepia"]
