"""Paraphrase: say it in words the model was neither trained nor erased with, naming the concept by none of its names."""

import random

from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import MethodError
from workbench.methods.attacks import reworded
from workbench.study.fields import NonEmpty, Seed
from workbench.study.words import any_of

OPTIMISED = False


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    wordings: list[NonEmpty] = Field(min_length=1, description="what is said instead of the name")
    others: list[NonEmpty] = Field(min_length=1, description="control: wordings for something else")
    seed: Seed = 0


def attack(model, targets, parameters, context):
    """Replace the concept's name in each target prompt by a wording.

    Raises   MethodError when a wording uses one of the names, or a prompt names the concept by none
    """
    return _reword(targets, parameters.wordings, parameters.seed, context, control=False)


def control(model, targets, adversarial, parameters, context):
    """The same sentences naming something else in as unusual words."""
    return _reword(targets, parameters.others, parameters.seed, context, control=True)


def _reword(targets, wordings, seed, context, control):
    pattern, forbidden = any_of(context.called), any_of(context.names)
    for wording in wordings:
        if forbidden.search(wording):
            raise MethodError(f'The wording "{wording}" uses a name of the concept or a forbidden word; a trained name is no attack.')
    rng, prompts = random.Random(seed), []
    for prompt in targets.prompts:
        if not pattern.search(prompt):
            raise MethodError(f'The target prompt "{prompt}" holds none of the names {", ".join(context.called)}.')
        wording = rng.choice(wordings)
        prompts.append(pattern.sub(lambda match, word=wording: word, prompt))
    return reworded(targets, prompts, context, control)
