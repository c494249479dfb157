"""Mask from a file: prune the weights that a saved mask names, in the base model or over another eraser."""

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.part import Said

MASK = True


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    file: Said = Field(description="mask file, relative to the study file: from a run, `workbench export --as mask` or `workbench mask`")
    any_base: bool = Field(False, description="also take a mask that was made for other weights of the same shapes")


def erase(model, pairs, parameters, *, folder=".", base_digest=None, **context):
    """Read {"unet.<name>": bool tensor, True = pruned}.

    base_digest   of the study's base model; a mask that notes another one is refused unless `any_base`
    Raises        ModelError when the file is no mask, or its layers are not those of the model; MethodError for another base
    """
    from workbench import resources
    from workbench.errors import MethodError
    from workbench.models import masks

    path = resources.find_file(parameters.file, folder)
    found, about = masks.load(path)
    masks.check_fit(found, model.parameters(), str(path))
    noted = about.get("base_digest")
    if noted and base_digest and noted != base_digest and not parameters.any_base:
        raise MethodError(
            f'{path} was made for the weights of "{about.get("base")}" ({noted[:12]}), the study has others ({base_digest[:12]}). '
            "Its layers fit, its choice of weights may not: set any_base = true to use it all the same."
        )
    return found


def files(parameters, folder):
    """{name: sha256} of the file the mask is read from."""
    from workbench import resources
    from workbench.storage import file_digest

    return {parameters.file: file_digest(resources.find_file(parameters.file, folder))}
