"""From a checkpoint: the erased model of somebody else, as a file or folder in one of the published formats."""

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.part import Said


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    path: Said = Field(description="file or folder, relative to the study file; `workbench inspect` says what it is")
    allow_unexpected: bool = Field(
        False, description="leave out tensors that the base model has no place for, instead of refusing the file"
    )


def erase(model, pairs, parameters, *, folder=".", **context):
    """Read {parameter: tensor} of everything that differs from the model; weights equal up to the file's precision stay as they are.

    Raises   ModelError when the file cannot be read safely, does not fit, or changes nothing
    Source   formats: FORMATS.md 1
    """
    from workbench import resources
    from workbench.models import formats

    found = formats.read(resources.find_file(parameters.path, folder), model)
    formats.check(found, model, parameters.allow_unexpected)
    own = model.parameters()
    return {name: value.to(own[name].device, own[name].dtype).clone() for name, value in found.changed(model).items()}


def files(parameters, folder):
    """{name: sha256} of the file or folder."""
    from workbench import resources
    from workbench.models.formats import container

    return {parameters.path: container.digest(resources.find_file(parameters.path, folder))}
