"""RECE: UCE, then again on the text states that come closest to the concept, found in closed form (Gong et al. 2024)."""

from pydantic import Field

from workbench.methods.erasers import uce
from workbench.study.fields import MOST_RATE
from workbench.study.published import Published

CITATIONS = ("gandikota2024unified", "gong2024reliable")
PUBLISHED = Published(
    source="arXiv 2407.12383 and CharlesGong12/RECE at 403a67f",
    values={"ridge": 0.5, "erase_scale": 1.0, "tokens": "rest", "preserve_scale": None, "empty": True},
    tasks={
        "style": {"epochs": 1, "regularisation": 1e-3},
        "object": {"epochs": 1, "regularisation": 1e-3},
        "nudity": {"epochs": 3, "regularisation": 0.1},
    },
    differs=(
        "they start from a file that UCE's script of 2023 wrote, here that edit is made first",
        "they choose the epoch by a detector's findings, here all epochs are made",
        "for objects they state no values; those of styles are taken",
        *uce.PUBLISHED.differs[:2],
    ),
)


class Parameters(uce.Parameters):
    """What can be set."""

    epochs: int = Field(1, ge=1, le=100, description="repeats; each finds the worst state and erases it; published: 1 (styles), 3 (nudity)")
    regularisation: float = Field(
        1e-3,
        gt=0,
        le=MOST_RATE,
        description="lam of the searched state: a larger value keeps the state smaller; published: 1e-3 (styles), 0.1 (nudity)",
    )


def worst(new, old, concepts, regularisation):
    """c' = argmin sum_W || W_new c' - W_old c ||^2 + lam || c' ||^2 = (lam I + sum W_new^T W_new)^-1 sum W_new^T W_old c.

    new, old   {name: (output, input)}; concepts (row, input);  returns (row, input) in float64
    """
    import torch

    n = concepts.shape[1]
    left = regularisation * torch.eye(n, dtype=torch.float64, device=concepts.device)
    right = torch.zeros(n, n, dtype=torch.float64, device=concepts.device)
    for name, weight in new.items():
        left = left + weight.double().T @ weight.double()
        right = right + weight.double().T @ old[name].double()
    return torch.linalg.solve(left, right @ concepts.double().T).T


def erase(model, pairs, parameters, *, retained=(), progress=None, **context):
    """Edit and return {"unet.<name>": tensor}; the model itself is left as it was.

    UCE on the pairs; then, `epochs` times, UCE's edit of the weights as they are, with c' (`worst`) instead of each concept's state.

    progress   called with (step, of)
    Raises     MethodError as UCE
    Source     arXiv 2407.12383. Our reading: the edit of an epoch starts at the weights of the epoch before
    """
    from workbench.methods.erasers import _closed_form as closed

    first = uce.erase(model, pairs, parameters, retained=retained)
    own = dict(model.unet.named_parameters())
    old = {name: own[name].detach() for name in closed.edited_names(model.unet)}
    new = {name: first[f"unet.{name}"] for name in old}
    concepts, guides = closed.pairs_of(model, pairs, parameters.tokens)
    preserved = closed.preserved_of(model, [*retained, *([""] if parameters.empty else [])], parameters.tokens)
    for epoch in range(parameters.epochs):
        again = worst(new, old, concepts, parameters.regularisation).to(concepts)
        new = closed.edited_model(model, new, again, lambda name: guides @ old[name].T, preserved, parameters)
        if progress:
            progress(epoch + 1, parameters.epochs)
    return {f"unet.{name}": weight for name, weight in new.items()}
