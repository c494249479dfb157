"""Checks before work begins: everything that a study names is opened once, and nothing is computed.

check_folder   may the run folder be made?
check_steps    can the model's scheduler make so many steps?
check          detectors with their labels, checkpoints, masks, attacks from files
warnings       what works, but weakens what the study can say: for the terminal, and as caveats of the report
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from workbench import registry, resources
from workbench.errors import RunError, StudyError, WorkbenchError, first_line
from workbench.execution.workspace import Workspace
from workbench.methods.detectors import Detector
from workbench.models import text
from workbench.models.load import Model
from workbench.study import prompts as prompt_files
from workbench.study.study import Study

MOST_BYTES_OF_A_NAME = 255


def check_folder(folder: str | Path) -> None:
    """Refuse a run folder that cannot be made: a file is in its way, or a name is too long for a disk."""
    path = Path(os.path.abspath(folder))
    for part in path.parts:
        if len(os.fsencode(part)) > MOST_BYTES_OF_A_NAME:
            raise RunError(f'The run folder cannot be made: "{part[:40]}…" is too long for the name of a folder. Choose a shorter --out.')
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not os.path.isdir(there):
        raise RunError(f'The run folder {folder} cannot be made: "{there}" is no folder. Choose another --out.')


def check_steps(study: Study, model: Model) -> None:
    """Refuse more sampling steps than the scheduler of the model can make, in the study and in the methods of its variants."""
    asked = [("sampling.steps", study.sampling.steps)]
    for variant in study.variants:
        steps = getattr(registry.method("erasers", variant.method).parameters(**variant.parameters), "steps", None)
        asked += [(f"variant {variant.name}: steps", steps)] if isinstance(steps, int) else []
    trained = model.scheduler.config.num_train_timesteps
    for where, steps in asked:
        if steps > trained:
            raise StudyError(
                f"{where} = {steps}, but the model was trained on {trained} timesteps. Take at most {trained}; 20 to 50 are usual."
            )
        try:
            model.new_scheduler(steps)
        except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
            kind = type(model.scheduler).__name__
            raise StudyError(f"{where} = {steps}: the scheduler of the model, {kind}, cannot make them ({first_line(error)}).") from error


def check(workspace: Workspace) -> None:
    """Open what the study names.

    Raises   WorkbenchError that begins with the place in the study: a detector, checkpoint or mask that cannot be opened or does not fit, a
             label that a detector does not know, a list of an attack that asks for another guidance
    """
    for role in ("steer", "judge"):
        with _at(f"detectors.{role}"):
            _check_labels(workspace, workspace.detector(role))
    if workspace.study.quality and workspace.study.quality.clip:
        with _at("quality.clip"):
            _ = workspace.clip
    for variant in workspace.study.variants:
        with _at(f"variant {variant.name}"):
            _check_method(workspace, "erasers", variant.method, variant.parameters)
    for attack in workspace.study.attacks:
        with _at(f"attack {attack.label}"):
            _check_method(workspace, "attacks", attack.method, attack.settings)


def warnings(workspace: Workspace) -> list[str]:
    """Sentences about what a reader must know of this study's inputs."""
    return [*_one_detector(workspace), *_cut(workspace), *_bare_names(workspace.study)]


class _at:
    """Puts the place in the study before the message of an expected error."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> "_at":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, WorkbenchError):
            error.args = (f"{self.place}: {error}", *error.args[1:])


def _check_labels(workspace: Workspace, detector: Detector) -> None:
    detector.check_labels(workspace.study.detectors.labels)
    for name, planned in workspace.plan.sets.items():
        if planned.kind == "retained" and planned.table is not None:
            with _at(f"the column expect of prompts.{name}"):
                detector.check_labels(dict.fromkeys(planned.table.table["expect"]))


def _check_method(workspace: Workspace, kind: str, name: str, settings: Mapping[str, Any]) -> None:
    """Run the check of a method, `check(parameters, model)`, and check the guidance of lists that an attack reads."""
    method, folder = registry.method(kind, name), workspace.study.folder
    parameters = method.parameters(**settings)
    files = method.files(parameters, folder)
    named = {field: value for field, value in parameters if isinstance(value, str) and value in files}
    placed = {field: str(resources.find_file(value, folder)) for field, value in named.items()}
    method.check(parameters.model_copy(update=placed), workspace.model)
    for path in placed.values():
        if kind == "attacks" and path.endswith(".csv"):
            prompt_files.check_guidance(path, prompt_files.read_csv(path), workspace.study.sampling.guidance)


def _one_detector(workspace: Workspace) -> list[str]:
    """A sentence when the network that attacks query is also the judge."""
    looks = workspace.plan.of_stage("detect")[0].parameters
    steer, judge = looks["steer"], looks["judge"]
    texts = [{key: value for key, value in one["parameters"].items() if not isinstance(value, int | float)} for one in (steer, judge)]
    if steer["method"] != judge["method"] or (steer["files"] != judge["files"] and texts[0] != texts[1]):
        return []
    correctors = [part.name for part in workspace.study.variants if registry.method("erasers", part.method).defends == "corrector"]
    corrected = [
        f"{', '.join(correctors)}: the detector that decides what is corrected is also the judge, so the judge never sees what it missed. "
        "Use another network as detectors.judge."
    ]
    return (corrected if correctors else []) + [
        f"One detector, {judge['method']}, is both attack-visible detector and judge: an attack that queries it finds images that fool it, "
        "and the judge counts them as successes. Rates under such attacks may be about the detector, not the concept. Use another "
        "network as detectors.judge."
    ]


def _cut(workspace: Workspace) -> list[str]:
    """A sentence for each list with prompts that are longer than the model's context."""
    study, read = workspace.study, {name: one.table.prompts for name, one in workspace.plan.sets.items() if one.table is not None}
    lists = {f"prompts.{name.replace('other-', 'other.')}": prompts for name, prompts in read.items()}
    if study.prompts.erase:
        lists["prompts.erase"] = [prompt for pair in prompt_files.read_pairs(_file(study, study.prompts.erase)) for prompt in pair]
    if study.prompts.retain:
        lists["prompts.retain"] = prompt_files.read_prompts(_file(study, study.prompts.retain), "retain", "adversarial").prompts
    found = []
    for where, prompts in lists.items():
        lost = [n for n in text.n_cut(workspace.model, prompts) if n]
        if lost:
            room_for = workspace.model.tokenizer.model_max_length - 2
            found.append(
                f"{where}: {len(lost)} of {len(prompts)} prompts are longer than the {room_for} tokens that {study.model.base} "
                "reads and are "
                f"truncated, by up to {max(lost)} tokens. Shorten them, or put first what matters."
            )
    return found


def _file(study: Study, name: str) -> Path:
    return resources.find_file(name, study.folder)


def _bare_names(study: Study) -> list[str]:
    """A sentence when erasers train on names alone because there are no pairs."""
    training = [one.name for one in study.variants if one.pairs is None and registry.method("erasers", one.method).has_cost]
    if study.prompts.erase is not None or not training:
        return []
    names = ", ".join(f'"{name}"' for name in study.concept.names)
    return [
        f"prompts.erase is not given, so {', '.join(training)} trained on bare names ({names}, each against the empty prompt). "
        "Training pairs erase more: a CSV with the columns prompt (a sentence with the concept) and anchor (the same without it)."
    ]
