"""Embedding PGD: a few free vectors before the prompt, optimised to draw the concept again; white box, not writable as text."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.methods.attacks import keep_first_success, vectors_before

OPTIMISED = True


class Parameters(BaseModel):
    """What can be set. AdvUnlearn's inner loop is 1 vector, 30 sign steps of 1e-3 (SD 1.x)."""

    model_config = ConfigDict(extra="forbid")

    n_vectors: int = Field(3, ge=1, le=16, description="vectors before the prompt")
    iterations: int = Field(60, ge=1, description="gradient steps")
    rule: Literal["adam", "sign"] = Field("adam", description="adam, or v <- v - step * sign(gradient)")
    step: float = Field(0.05, gt=0, description="learning rate of adam, or step of sign")
    looks: int = Field(1, ge=1, le=50, description="looks at the detector, evenly spaced; the first success is kept")
    batch: int = Field(20, ge=1, description="prompts per UNet call")
    seed: int = Field(0, description="of the start vectors, the noise and the timesteps")


def attack(model, targets, parameters, context):
    """Minimise || noise - eps(x_t, t, [v, prompt]) ||^2 over v, with x_0 = the base model's image of the prompt.

    All prompts are optimised side by side; each has its own vectors. Start: vectors of random words.
    """
    import torch

    from workbench.diffusion.objectives import denoising_loss
    from workbench.models import text

    generator = torch.Generator().manual_seed(parameters.seed)
    table = text.token_vectors(model).detach()
    words = torch.tensor(text.permitted_tokens(model, context.names))
    first = words[torch.randint(len(words), (len(targets), parameters.n_vectors), generator=generator)]
    vectors = table[first].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([vectors], lr=parameters.step)
    n_train = model.scheduler.config.num_train_timesteps
    prompts, clean = targets.prompts, context.clean.to(model.device, model.dtype)
    looks_at = {round(parameters.iterations * (look + 1) / parameters.looks) for look in range(parameters.looks)}
    candidates = []
    for iteration in range(1, parameters.iterations + 1):
        # each prompt gets its own t, spread evenly over the schedule so that no iteration sees one noise level only
        spread = torch.rand(len(targets), generator=generator) + torch.randperm(len(targets), generator=generator)
        timesteps = (spread / len(targets) * n_train).long().clamp(max=n_train - 1)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        optimiser.zero_grad()
        losses = []
        for start in range(0, len(targets), parameters.batch):
            rows = slice(start, start + parameters.batch)
            states = text.encode(model, prompts[rows], vectors[rows])
            loss = denoising_loss(model, clean[rows], noise[rows], timesteps[rows].to(model.device), states)
            loss.sum().backward()
            losses.append(loss.detach())
        losses = torch.cat(losses)
        if parameters.rule == "adam":
            optimiser.step()
        else:
            with torch.no_grad():
                vectors -= parameters.step * vectors.grad.sign()
        context.log += [
            {"iteration": iteration, "id": row_id, "timestep": int(t), "loss": float(value)}
            for row_id, t, value in zip(targets.table["id"], timesteps, losses, strict=True)
        ]
        context.progress(iteration, parameters.iterations, f"loss {losses.mean():.4f}")
        if iteration in looks_at:
            candidates.append(vectors_before(targets, vectors.detach().clone(), context))
    return keep_first_success(candidates, context)


def control(model, targets, adversarial, parameters, context):
    """Random vectors of the attack's own norms, with as many looks at the detector."""
    import torch

    generator = torch.Generator().manual_seed(parameters.seed + 1)
    norms = adversarial.prefix.norm(dim=-1, keepdim=True)
    candidates = []
    for _ in range(parameters.looks):
        random = torch.randn(adversarial.prefix.shape, generator=generator)
        candidates.append(vectors_before(targets, random / random.norm(dim=-1, keepdim=True) * norms, context, True))
    return keep_first_success(candidates, context)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate; a row with gradient counts as 2.5."""
    looking = 2 * parameters.looks * passes_per_image if parameters.looks > 1 else 0
    return n_prompts * (2.5 * parameters.iterations + looking)
