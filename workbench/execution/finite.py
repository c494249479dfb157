"""Values that are not finite are refused where they are made. The error names the variant or method and says what to do.

check               images and latents;  check_weights   what an eraser returned;  check_embeddings   what an attack returned
check_activations   recorded statistics;  check_stored   the same in the number format they are stored in
"""

from collections.abc import Collection, Iterable, Mapping

import torch

from workbench.errors import MethodError, ModelError
from workbench.execution.plan import Node
from workbench.execution.workspace import Workspace
from workbench.models.changes import Change
from workbench.neurons.reduce import Statistics
from workbench.study.prompts import PromptSet
from workbench.study.study import BASE
from workbench.study.variants import VariantTable


def check(
    workspace: Workspace, variant: str | None, prompt_set: str, what: str, *values: torch.Tensor, dtype: torch.dtype | None = None
) -> None:
    """Refuse what a variant made for a prompt set when a row of `values` (row, ...) holds NaN or infinity.

    Raises   ModelError that names the variant, the set, how many rows, and what to do
    """
    broken = torch.stack([~value.isfinite().flatten(1).all(dim=1).cpu() for value in values]).any(dim=0)
    if broken.any():
        raise ModelError(
            f"{_named(variant)} makes {what} that hold NaN or infinity: {int(broken.sum())} of {len(broken)} {what} of the prompt "
            f'set "{prompt_set}". No detector can judge such an image, so the run stops here. {_cure(workspace, variant, dtype)}'
        )


def check_activations(workspace: Workspace, node: Node, statistics: Iterable[Statistics]) -> None:
    """Refuse recorded activations that are not finite.

    statistics   a list of Statistics, filled
    Raises       ModelError that names the variant, the set and the first layer
    """
    found = [(path, moments) for one in statistics for (path, _), moments in one.moments.items() if moments.count.sum()]
    wrong = dict.fromkeys(path for path, moments in found if not (moments.mean.isfinite().all() and moments.m2.isfinite().all()))
    _refuse_layers(workspace, node, wrong, {path for path, _ in found}, "are not finite")


def check_stored(workspace: Workspace, node: Node, tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse statistics {name: tensor} that were finite and are too large for the number format they are stored in."""
    wrong = dict.fromkeys(name.split("|")[0] for name, values in tensors.items() if not values.isfinite().all())
    _refuse_layers(workspace, node, wrong, {name.split("|")[0] for name in tensors}, "are too large to be stored")


def check_weights(part: VariantTable, result: Mapping[str, torch.Tensor] | Change) -> None:
    """Refuse what an eraser returned when some of it is not finite."""
    tensors = result.tensors if isinstance(result, Change) else result
    wrong = [name for name, value in tensors.items() if not value.isfinite().all()]
    if wrong:
        raise MethodError(
            f'The eraser {part.method} of the variant "{part.name}" made weights that hold NaN or infinity: {len(wrong)} of {len(tensors)} '
            f'tensors, first "{wrong[0]}". Its training diverged: lower its learning_rate or iterations, or set model.dtype to float32.'
        )


def check_embeddings(node: Node, which: str, made: PromptSet) -> None:
    """Refuse embeddings that an attack returned when some are not finite."""
    if made.prefix is None:
        return
    broken = ~made.prefix.isfinite().flatten(1).all(dim=1)
    if broken.any():
        raise MethodError(
            f'The attack {node.parameters["method"]} on "{node.variant or BASE}" made {which} embeddings that hold NaN or infinity: '
            f"{int(broken.sum())} of {len(broken)} prompts. Its search diverged: lower its learning rate or iterations."
        )


def _refuse_layers(workspace: Workspace, node: Node, wrong: Collection[str], layers: Collection[str], what: str) -> None:
    if wrong:
        raise ModelError(
            f'{_named(node.variant)} has activations that {what}, on the prompt set "{node.prompt_set}": in {len(wrong)} of '
            f'{len(layers)} layers, first in "{next(iter(wrong))}". They cannot be measured, so the run stops here. '
            f"{_cure(workspace, node.variant)}"
        )


def _named(variant: str | None) -> str:
    return "The base model" if variant in (None, BASE) else f'The variant "{variant}"'


def _cure(workspace: Workspace, variant: str | None, dtype: torch.dtype | None = None) -> str:
    """What to do about a model whose numbers are not finite."""
    dtype = dtype or workspace.model.dtype
    narrow = "" if dtype == torch.float32 else f"Numbers overflow easily in {str(dtype).removeprefix('torch.')}: "
    narrow += "set model.dtype to float32. If that does not help, " if narrow else ""
    if variant is None or variant == BASE:
        cure = f"check the files of the base model, {workspace.base}."
    elif (part := workspace.part(variant)).method == "from_checkpoint":
        cure = f"check its checkpoint: workbench inspect {part.parameters.get('path', 'FILE')}"
    else:
        cure = f"check the settings of its eraser {part.method}: fewer iterations or a lower learning_rate, where it has them."
    return narrow + (cure if narrow else cure[0].upper() + cure[1:])
