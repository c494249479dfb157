"""From a checkpoint: the erased model of somebody else, as a file or folder in one of the published formats."""

from typing import ClassVar

from pydantic import Field

from workbench.study.fields import NonEmpty, StudyTable


class Parameters(StudyTable):
    """What can be set."""

    added_later: ClassVar[tuple[str, ...]] = ("multiplier", "transport")

    path: NonEmpty = Field(description="file or folder, relative to the study file; `workbench inspect` says what it is")
    allow_unexpected: bool = Field(
        False, description="leave out tensors that the base model has no place for, instead of refusing the file"
    )
    multiplier: float = Field(1.0, ge=-1000, le=1000, description="of a LoRA's strength; -1 takes away what it adds")
    transport: bool = Field(
        False, description="SPM's file: its strength depends on the prompt, as SPM's own; otherwise it is merged as a plain LoRA"
    )


def erase(model, pairs, parameters, *, folder=".", **context):
    """Read {parameter: tensor} of everything that differs from the model; weights equal up to the file's precision stay as they are.

    A folder of Receler's is read as a Change: modules that are added; so is a file of SPM's with `transport`.

    Raises   ModelError when the file cannot be read safely, does not fit, holds numbers that are not finite, or changes nothing
    Source   formats: docs/guides/own-model.md
    """
    added = _added(parameters, model, folder)
    if added is not None:
        return added
    found = _checked(parameters, model, folder)
    own = model.parameters()
    return {name: value.to(own[name].device, own[name].dtype).clone() for name, value in found.changed(model).items()}


def check(parameters, model, folder="."):
    """Whether the file can be a variant of the model, without applying it: what the dry run asks.

    Names, types and shapes are read from the header first, where there is one, so that a file for another base is told at once; then
    the weights, for what they hold counts too.

    Raises   ModelError in one sentence when it does not open, does not fit the base, or cannot be a variant; StudyError when it is not
             there
    """
    if _added(parameters, model, folder) is None:
        _checked(parameters, model, folder)


def _added(parameters, model, folder):
    """The Change of a folder that adds modules, or of SPM's file; None of any other checkpoint."""
    from workbench import resources
    from workbench.errors import ModelError
    from workbench.models.changes import receler_files, spm_files

    path = resources.find_file(parameters.path, folder)
    if parameters.transport:
        if not spm_files.is_one(path):
            raise ModelError(f"{path} is no file of SPM's (prompts, rank and alpha in its header), so it has no transport.")
        return spm_files.read(path, model)
    return receler_files.read(path, model) if receler_files.is_one(path) else None


def _checked(parameters, model, folder):
    from workbench import resources
    from workbench.models import formats

    path = resources.find_file(parameters.path, folder)
    formats.check_header(path, model, parameters.allow_unexpected)
    found = formats.read(path, model, parameters.multiplier)
    formats.check(found, model, parameters.allow_unexpected)
    return found


def files(parameters, folder):
    """{name: sha256} of the file or folder, and of the LoRA strength its header states, which was not read in the first runs."""
    from workbench import resources
    from workbench.models.formats import container

    path = resources.find_file(parameters.path, folder)
    stated = container.stated_strength(path)
    return {parameters.path: container.digest(path)} | ({f"{parameters.path}, LoRA strength": stated} if stated else {})
