"""What variants are trained on; none of it is measured.

pairs        the erasing pairs a variant learns from
retained     the prompts that learned masks keep
A prompt that is trained on and measured is refused, or left out of the training where `prompts.trained_and_measured` says so:
a variant would be praised, or blamed, for what it was shown. Prompts are the same when they differ in case and spaces alone.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from workbench import resources
from workbench.errors import StudyError
from workbench.registry import SIDES, Method
from workbench.study import prompts as prompt_files
from workbench.study.prompts import PromptSet
from workbench.study.study import Study
from workbench.study.variants import VariantTable

LEAVE_OUT = "leave out"


def read_pairs(study: Study, file: str | None) -> list[tuple[str, str]]:
    """The erasing pairs of a file; the concept's names against the empty prompt when there is none."""
    if file:
        return prompt_files.read_pairs(resources.find_file(file, study.folder))
    return [(name, "") for name in study.concept.names]


def same(prompt: str) -> str:
    """A prompt without differences of case and spaces: prompts with the same result count as equal."""
    return " ".join(prompt.casefold().split())


def measured(sets: Mapping[str, PromptSet]) -> dict[str, str]:
    """{prompt as `same` gives it: name of the first set that has it} of every measured set."""
    found: dict[str, str] = {}
    for name, rows in sets.items():
        for prompt in rows.prompts:
            found.setdefault(same(prompt), name)
    return found


def pairs(
    study: Study, sets: Mapping[str, PromptSet], variant: VariantTable, method: Method, parameters: BaseModel
) -> tuple[list[tuple[str, str]], str | None]:
    """[(prompt, anchor)] a variant learns from, and a sentence on those left out, or None.

    Raises   StudyError when a side it learns from is measured and nothing says to leave it out, or when nothing is left
    """
    file = variant.pairs or study.prompts.erase
    given, known, sides = read_pairs(study, file), measured(sets), method.learns_from(parameters)
    found = [[(side, pair[SIDES.index(side)]) for side in sides if same(pair[SIDES.index(side)]) in known] for pair in given]
    both = [one for of_pair in found for one in of_pair]
    if not both:
        return given, None
    left = [pair for pair, of_pair in zip(given, found, strict=True) if not of_pair]
    side, prompt = both[0]
    what = f'variant "{variant.name}" learns from prompts that are measured too ({len(given) - len(left)} of {len(given)} erasing pairs), '
    what += f'e.g. the {side} "{prompt}" (set {known[same(prompt)]})'
    cure = f"Take them out of {file} or of the measured set" if file else "These are the bare names: give pairs in prompts.erase"
    if not left:
        raise StudyError(f"{what}, and nothing else. What a variant was trained on is no evidence of how it answers. {cure}.")
    if study.prompts.trained_and_measured != LEAVE_OUT:
        raise StudyError(
            f"{what}. What a variant was trained on is no evidence of how it answers. {cure}, or set "
            f'prompts.trained_and_measured = "{LEAVE_OUT}": then it learns from the other {len(left)} of {len(given)} pairs.'
        )
    return left, f"{variant.name}: {len(given) - len(left)} of {len(given)} erasing pairs are measured, and left out of its training."


def retained(study: Study, sets: Mapping[str, PromptSet]) -> list[str]:
    """The prompts that learned masks keep, each once.

    Raises   StudyError when one of them is measured and nothing says to leave it out, or when nothing is left
    """
    table = prompt_files.read_prompts(resources.find_file(study.prompts.retain, study.folder), "retain", "adversarial").table
    given, known = list(dict.fromkeys(table["prompt"])), measured(sets)
    both = [prompt for prompt in given if same(prompt) in known]
    left = [prompt for prompt in given if same(prompt) not in known]
    if both and (study.prompts.trained_and_measured != LEAVE_OUT or not left):
        raise StudyError(
            f'prompts.retain and the measured sets have {len(both)} prompts in common, e.g. "{both[0]}" (set {known[same(both[0])]}). '
            "A mask would be praised for what it was trained on: take them out of one of the files, or set "
            f'prompts.trained_and_measured = "{LEAVE_OUT}": then it learns from the other {len(left)} of {len(given)} prompts.'
            if left
            else f"All {len(given)} prompts of prompts.retain are measured too, e.g. "
            f'"{both[0]}" (set {known[same(both[0])]}), so that no mask may learn from them. Give others.'
        )
    return left
