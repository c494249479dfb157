"""Concept inversion: new vectors learned from the base model's images of the concept, put before every prompt; white box."""

from pydantic import Field

from workbench.methods.attacks import vectors_before
from workbench.methods.attacks._search import GRADIENT_PASSES, Budget, RandomVectors, generator, search

OPTIMISED = True


class Parameters(Budget):
    """What can be set. Published for SD 1.4: one vector, 25 images, 5,000 steps of 5e-3, batches of 4 accumulated 4 times."""

    n_vectors: int = Field(1, ge=1, le=16, description="vectors learned, the same for all prompts")
    n_images: int = Field(25, ge=1, description="images of the base model it learns from: the first targets")
    iterations: int = Field(5000, ge=1, description="gradient steps")
    step: float = Field(5e-3, gt=0, description="learning rate of AdamW")
    looks: int = Field(0, ge=0, le=0, description="none: the vectors are learned from images, not from the detector")
    batch: int = Field(16, ge=1, description="images of one step")


def attack(model, targets, parameters, context):
    """Minimise E || eps - eps(x_t, t, [v, prompt]) ||^2 over v for all images together; start: random permitted words.

    Leaves `learned_embeds.safetensors` {"<concept>": (vector, channel)}, which diffusers' `load_textual_inversion` reads.
    Source   Pham et al. 2024 (arXiv 2308.01508); SCIENCE 5
    """
    import torch

    from workbench.diffusion.objectives import denoising_loss, draw_noise
    from workbench.models import text

    table = text.token_vectors(model).detach()
    words = torch.tensor(text.permitted_tokens(model, context.names))
    begin = generator(parameters.seed, "start", 0)
    first = words[torch.randint(len(words), (parameters.n_vectors,), generator=begin)]
    kept = context.kept("attack")
    vectors = (kept["vectors"] if kept else table[first.to(table.device)]).clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([vectors], lr=parameters.step)
    if kept:
        optimiser.load_state_dict(kept["optimiser"])
        context.log += kept["log"]
    n = min(parameters.n_images, len(targets))
    for iteration in range(kept["iteration"] + 1 if kept else 1, parameters.iterations + 1):
        draws = generator(parameters.seed, "batch", iteration)
        rows = torch.randint(n, (min(parameters.batch, n),), generator=draws).tolist()
        clean = context.clean[rows].to(model.device, model.dtype)
        timesteps, noise = draw_noise(model, [generator(parameters.seed, place, iteration) for place in range(len(rows))])
        states = text.encode(model, [targets.prompts[row] for row in rows], vectors.expand(len(rows), -1, -1))
        loss = denoising_loss(model, clean, noise, timesteps, states).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        spent = GRADIENT_PASSES * iteration * len(rows) / len(targets)
        context.log.append({"of": "attack", "id": None, "iteration": iteration, "passes": spent, "loss": loss.item()})
        context.progress(iteration, parameters.iterations, f"loss {loss.item():.4f}")
        if iteration % 200 == 0:
            state = {"vectors": vectors.detach(), "optimiser": optimiser.state_dict(), "iteration": iteration, "log": context.log}
            context.keep("attack", state)
    learned = vectors.detach().clone()
    context.files["learned_embeds.safetensors"] = {f"<{context.names[0]}>": learned}
    return vectors_before(targets, learned.cpu().expand(len(targets), -1, -1).clone(), context)


def control(model, targets, adversarial, parameters, context):
    """Random vectors of the same norms, others for each prompt."""
    return search(RandomVectors(targets, adversarial.prefix, parameters.seed + 1, context), targets, context, parameters, 1, control=True)


def passes(parameters, n_prompts, passes_per_image):
    """UNet row passes for the estimate."""
    return GRADIENT_PASSES * parameters.iterations * parameters.batch
