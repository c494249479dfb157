"""Mask from a file: prune the weights that a saved mask names, in the base model or over another eraser."""

from typing import ClassVar, Literal

from pydantic import Field

from workbench.study.fields import NonEmpty, StudyTable

MASK = True


class Parameters(StudyTable):
    """What can be set."""

    added_later: ClassVar[tuple[str, ...]] = ("calls", "select_ratio", "layers")

    file: NonEmpty = Field(
        description="mask file, relative to the study file: from a run, `workbench export --as mask` or `workbench mask`; or a folder of "
        "ConceptPrune's masks",
    )
    any_base: bool = Field(False, description="also take a mask that was made for other weights of the same shapes")
    calls: int | None = Field(None, ge=1, le=1000, description="ConceptPrune's folders: how many of the first calls count; published: 10")
    select_ratio: float = Field(
        0.0, ge=0, lt=1, description="ConceptPrune's folders: a weight is cut when more than this share of the calls name it"
    )
    layers: Literal["reads", "feeds", "key", "value", "text"] | None = Field(
        None, description="ConceptPrune's folders: which layers were searched, where their shapes leave it open; published: reads"
    )


def erase(model, pairs, parameters, *, folder=".", base_digest=None, **context):
    """Read {"unet.<name>": bool tensor, True = pruned}.

    base_digest   of the study's base model; a mask that notes another one is refused unless `any_base`
    Raises        ModelError when the file is no mask, or its layers are not those of the model; MethodError for another base
    """
    return _checked(model, parameters, folder, base_digest)


def check(parameters, model, folder=".", base_digest=None):
    """Whether the mask can be cut into the model, without cutting: what the dry run asks.

    base_digest   of the study's base model, where it is known
    Raises        ModelError in one sentence when it does not open, or does not fit the base; MethodError for another base; StudyError
                  when it is not there
    """
    _checked(model, parameters, folder, base_digest)


def _checked(model, parameters, folder, base_digest):
    from workbench import resources
    from workbench.errors import MethodError, ModelError
    from workbench.models import foreign_masks, masks

    path = resources.find_file(parameters.file, folder)
    kind = foreign_masks.kind(path)
    if kind == "ConceptPrune" and parameters.calls is None:
        raise ModelError(
            f"{path} holds ConceptPrune's masks, one a call. Say how many of the first calls count, e.g. calls = 10, as published "
            "(9 for nudity)."
        )
    if kind != "ConceptPrune" and any(name in parameters.model_dump() for name in parameters.added_later):
        raise ModelError(
            f"{path} is no folder of ConceptPrune's masks, so calls, select_ratio and layers mean nothing for it. Leave them out."
        )
    if kind is None:
        found, about = masks.load(path)
    else:
        found, about = foreign_masks.read(path, model, parameters.calls, parameters.select_ratio, parameters.layers)
    if about.get("marks") == foreign_masks.TRAINED:
        raise ModelError(
            f"{path} marks the weights that SalUn trained ({masks.count(found)} of them), not weights to cut. To cut them all the same, "
            f"make a pruning mask of it: workbench mask import {path} --model BASE --out F, then workbench mask combine F F --how union "
            "--out CUT."
        )
    masks.check_fit(found, model.parameters(), str(path))
    if not masks.count(found):
        raise ModelError(f"{path} names no weight, so nothing would be pruned by it.")
    noted = about.get("base_digest")
    if noted and base_digest and noted != base_digest and not parameters.any_base:
        raise MethodError(
            f'{path} was made for the weights of "{about.get("base")}" ({noted[:12]}), the study has others ({base_digest[:12]}). '
            "Its layers fit, its choice of weights may not: set any_base = true to use it all the same."
        )
    return found


def files(parameters, folder):
    """{name: sha256} of the file the mask is read from, or of all masks in a folder."""
    from workbench import resources
    from workbench.models.formats import container

    return {parameters.file: container.digest(resources.find_file(parameters.file, folder))}
