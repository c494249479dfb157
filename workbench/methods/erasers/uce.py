"""UCE: edit keys and values of cross-attention in closed form, so that the concept is read as something else (Gandikota et al. 2024)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_RATE
from workbench.study.published import Published

CITATIONS = ("gandikota2024unified",)
PUBLISHED = Published(
    source="rohitgandikota/unified-concept-editing at 28c81ed; of 2023: its first scripts. The same options of both give different models",
    values={"ridge": 0.5, "erase_scale": 1.0},
    tasks={
        task: {"tokens": "last", "preserve_scale": 1.0, "empty": False}
        if year == ""
        else {"tokens": "rest", "preserve_scale": None, "empty": True}
        for year in ("", "-2023")
        for task in (f"style{year}", f"object{year}", f"nudity{year}")
    },
    differs=(
        'their scripts are given names of concepts, and a guide such as the empty prompt or "art"; here both are the sides of the study\'s '
        "erasing pairs",
        "they invert in single precision, here in double",
        "their scripts can widen each name by templates of prompts; give such prompts as pairs",
    ),
)


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    tokens: Literal["last", "rest"] = Field(
        "last", description="which states are edited: last: that of the last word (2025); rest: it and all tokens after it (2023)"
    )
    ridge: float = Field(0.5, gt=0, le=MOST_RATE, description="lam: how strongly weights are held where they are; published: 0.5")
    erase_scale: float = Field(1.0, gt=0, le=MOST_RATE, description="a: weight of the concept's states; published: 1")
    preserve_scale: float | None = Field(
        1.0, ge=0, le=MOST_RATE, description="b: weight of the preserved states; null: max(0.1, 1 / their number), as in 2023"
    )
    empty: bool = Field(False, description="whether the empty prompt is preserved too, as in 2023")


def erase(model, pairs, parameters, *, retained=(), **context):
    """Edit and return {"unet.<name>": tensor}; the model itself is left as it was.

    W <- (lam W_0 + a sum_e v_e c_e^T + b sum_p W_0 c_p c_p^T) (lam I + a sum_e c_e c_e^T + b sum_p c_p c_p^T)^-1,  v_e = W_0 c_guide

    for each W of attn2.to_k and attn2.to_v; c_e states of the concept's prompts, c_guide of their anchors, c_p of the prompts to retain.

    Raises   MethodError when there are no pairs, or the model has no cross-attention
    Source   arXiv 2308.14761 and its public code
    """
    from workbench.errors import MethodError
    from workbench.methods.erasers import _closed_form as closed

    if not pairs:
        raise MethodError("UCE needs prompts with the concept and their anchors; the study gives none.")
    own = dict(model.unet.named_parameters())
    weights = {name: own[name].detach() for name in closed.edited_names(model.unet)}
    if not weights:
        raise MethodError("This UNet has no keys and values of cross-attention (attn2.to_k, attn2.to_v), which UCE edits.")
    concepts, guides = closed.pairs_of(model, pairs, parameters.tokens)
    kept = [*retained, *([""] if parameters.empty else [])]
    preserved = closed.preserved_of(model, kept, parameters.tokens)
    found = closed.edited_model(model, weights, concepts, lambda name: guides @ weights[name].T, preserved, parameters)
    return {f"unet.{name}": weight for name, weight in found.items()}
