"""Null-space edit: keys and values change only where no retained prompt reads them; our reading of ACE (Wang et al. 2025)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_RATE

CITATIONS = ("wang2025ace",)
NO_PRESET = (
    "its code has no licence and was not read, so its settings are not known here; the projection is built as the paper describes it."
)


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    tokens: Literal["last", "rest"] = Field(
        "last", description="which states are edited and retained: that of the last word, or it and all tokens after it"
    )
    ridge: float = Field(0.01, gt=0, le=MOST_RATE, description="lam: how strongly the edit is held small")
    tolerance: float = Field(
        1e-10,
        ge=0,
        lt=1,
        description="directions in which the retained states vary less than this share of their strongest direction count as unread; 0 or "
        "a tiny number keeps their outputs as they were",
    )


def erase(model, pairs, parameters, *, retained=(), **context):
    """Edit and return {"unet.<name>": tensor}; the model itself is left as it was.

    W <- W_0 + R K^T (K K^T + lam I)^-1,   K = P C,  R = V - W_0 C,  V = W_0 C_guide

    for each W of attn2.to_k and attn2.to_v; C states of the concept's prompts, C_guide of their anchors, as columns. P projects on the
    directions that the states of retained prompts (and of the anchors and the empty prompt) do not span: eigenvectors of their second
    moment below the tolerance. K lies there, so the edit gives 0 for every retained state.

    Raises   MethodError when there are no pairs or no retained prompts, when the retained states leave no direction free, or when the
             model has no cross-attention
    Source   ours, after arXiv 2503.08116, whose projection it shares with AlphaEdit (arXiv 2410.02355)
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers import _closed_form as closed

    if not pairs:
        raise MethodError("The null-space edit needs prompts with the concept and their anchors; the study gives none.")
    if not retained:
        raise MethodError("The null-space edit needs prompts to retain: without them no direction is protected. Set prompts.retain.")
    own = dict(model.unet.named_parameters())
    names = closed.edited_names(model.unet)
    if not names:
        raise MethodError("This UNet has no keys and values of cross-attention (attn2.to_k, attn2.to_v), which are edited.")
    concepts, guides = (one.double() for one in closed.pairs_of(model, pairs, parameters.tokens))
    kept = [*retained, *(anchor for _, anchor in pairs), ""]
    preserved = closed.preserved_of(model, list(dict.fromkeys(kept)), parameters.tokens).double()
    free = closed.unread(preserved, parameters.tolerance)
    if not len(free):
        raise MethodError(
            f"The {len(preserved)} retained states span all {preserved.shape[1]} directions: no edit leaves them as they are. "
            'Retain fewer prompts, edit the last word only (tokens = "last"), or raise `tolerance`.'
        )
    inside = concepts @ free.T  # K in the coordinates of the free directions
    unit = torch.eye(len(free), dtype=torch.float64, device=free.device)
    right = torch.linalg.solve(inside.T @ inside + parameters.ridge * unit, inside.T)
    change = {}
    for name in names:
        weight = own[name].detach().double()
        wanted = (guides - concepts) @ weight.T  # R^T
        change[f"unet.{name}"] = (weight + (free.T @ (right @ wanted)).T).to(own[name].dtype)
    return change
