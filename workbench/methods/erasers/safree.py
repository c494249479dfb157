"""SAFREE, our reading: words close to the concept are projected away from the prompt; no weight changes (Yoon et al. 2024)."""

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import NonEmpty
from workbench.study.published import Published

CITATIONS = ("yoon2024safree",)
DEFENDS = "transform"
PUBLISHED = Published(
    source="arXiv 2410.12761; alpha, up_t and the four weights of the features also stand in the options of its code",
    values={"alpha": 0.01, "up_t": 10.0, "reattention": True, "skip_1": 0.9, "skip_2": 0.2},
    differs=("our reading: built from accounts of the paper, as its code has no licence and is not followed",),
    unknown={"concept": "theirs is a list of words about the concept; a study names its own"},
    ours=("ends",),
)


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    concept: NonEmpty = Field(description="texts about the concept, separated by commas")
    alpha: float = Field(0.01, ge=0, le=1, description="how much closer to the concept than the others a word must be; published: 0.01")
    up_t: float = Field(10.0, gt=0, le=100, description="of 50 steps, the most for which projected words hold; published: 10")
    reattention: bool = Field(True, description="whether low frequencies of the skip features are weighed where projected words hold")
    skip_1: float = Field(0.9, ge=0, le=2, description="their weight in the first up block; published: 0.9")
    skip_2: float = Field(0.2, ge=0, le=2, description="their weight in the second up block; published: 0.2")
    ends: bool = Field(False, description="whether end token and padding are projected too where a word is; ours")


def learns_from(parameters):
    """It learns nothing."""
    return ()


def erase(model, pairs, parameters, **context):
    """The prompt transform, as a Change; formulas: `models.changes.safree.Transform`.

    Raises   MethodError when the texts about the concept are all empty
    Source   arXiv 2410.12761; our reading, see there
    """
    import torch

    from workbench.errors import MethodError
    from workbench.models import text
    from workbench.models.changes import Change

    texts = [one.strip() for one in parameters.concept.split(",") if one.strip()]
    if not texts:
        raise MethodError(f'safree: concept = "{parameters.concept}" names nothing. Give texts about the concept, separated by commas.')
    with torch.no_grad():
        states = text.encode(model, texts)
        ends = text.ends(model, text.tokenize(model.tokenizer, texts)).to(states.device)
    return Change("safree", parameters.model_dump(mode="json"), {"states": states[torch.arange(len(texts)), ends].float().cpu()})
