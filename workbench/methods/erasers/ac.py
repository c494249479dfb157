"""AC: fine-tune until the concept's prompts are answered like the same prompts without it (Kumari et al. 2023)."""

from typing import ClassVar, Literal

from pydantic import Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, NonEmpty, Seed, StudyTable
from workbench.study.published import Published

CITATIONS = ("kumari2023ablating",)
PUBLISHED = Published(
    source="nupurkmr9/concept-ablation, diffusers/README and train.py at c11fb1b. Their commands run on 2 GPUs with --scale_lr, so that "
    "batch is 2 x 4 and the learning rate is 8 times the one given",
    values={"guidance": 6.0, "steps": 25, "batch": 8, "images": 1000},
    tasks={
        "style": {"modules": "cross-attn", "iterations": 100, "learning_rate": 1.6e-5, "prior": 0.0},
        "object": {"modules": "cross-attn", "iterations": 100, "learning_rate": 1.6e-5, "prior": 0.0},
        "nudity": {"modules": "attn", "iterations": 400, "learning_rate": 3.2e-5, "prior": 1.0},
    },
    ours=("seed", "words"),
    differs=(
        'of their form "embedding" no settings are published; theirs trains the whole text encoder, here only the vectors of the words',
        "they use AdamW with weight decay 0.01 and clip gradients at norm 1, here Adam without either",
        "they flip images, and for objects resize them at random; here latents are trained on as they were sampled",
        "they stop the gradient through the first token's key and value, here it flows",
        "they add the prior term where the name of the object holds that of its anchor (grumpy cat, cat); set prior = 1 then",
    ),
)


class Parameters(StudyTable):
    """What can be set. Defaults are scaled for the emoji model; the published ones for SD 1.x stand in each field."""

    added_later: ClassVar[tuple[str, ...]] = ("words",)

    modules: Literal["cross-attn", "attn", "full-weight", "embedding"] = Field(
        "cross-attn",
        description="cross-attn: attn2.to_k and to_v; attn: all attention; full-weight: the whole UNet; embedding: the vectors of the "
        "concept's words in the text encoder",
    )
    words: tuple[NonEmpty, ...] = Field(
        (), description="for embedding: the words whose vectors are trained; none: those that a prompt has and no anchor has"
    )
    iterations: int = Field(160, ge=1, le=MOST_ITERATIONS, description="optimiser steps; SD: 100 (style, object) or 400 (nudity)")
    learning_rate: float = Field(
        1e-3, gt=0, le=MOST_RATE, description="Adam's; of vectors 1e-2 is a good start; SD: 8 times 2e-6 (style, object) or 4e-6 (nudity)"
    )
    prior: float = Field(0.0, ge=0, le=MOST_RATE, description="weight of the denoising loss on the images without the concept")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of those images")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of those images")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="latents per optimiser step; SD: 4 on each of 2 GPUs")
    images: int = Field(32, ge=1, le=MOST_ROWS, description="images without the concept, at least one a pair; SD: 200 to 1000")
    seed: Seed = Field(0, description="of the images and of drawing")


def trained_names(unet, modules):
    """Parameter names (without the `unet.` prefix) that a choice of modules trains."""
    parts = {"cross-attn": (".attn2.to_k.", ".attn2.to_v."), "attn": (".attn1.", ".attn2."), "full-weight": ("",)}[modules]
    return [name for name, _ in unet.named_parameters() if any(part in name for part in parts)]


def check_training(parameters, pairs):
    """MethodError where settings do not belong together."""
    from workbench.errors import MethodError

    if parameters.modules == "embedding" and parameters.prior:
        raise MethodError('With modules = "embedding" the anchor is read as before, so that `prior` changes nothing. Set prior = 0.')
    if parameters.modules != "embedding" and parameters.words:
        raise MethodError(f'`words` is for modules = "embedding"; here modules = "{parameters.modules}". Leave `words` out.')


def erase(
    model,
    pairs,
    parameters,
    *,
    progress=None,
    kept=lambda name: None,
    keep=lambda name, state: None,
    **context,
):
    """Train and return {"unet.<name>": tensor}, or the table of token vectors; the model itself is left as it was.

    loss = || eps(x_t, t, c) - sg[eps(x_t, t, c_anchor)] ||^2 + prior || eps(x_t, t, c_anchor) - noise ||^2, both by the model in
    training, x_t noised images of the anchor

    With modules = "embedding" only vectors of the concept's words change, in eps(x_t, t, c) alone, for no anchor has these words.

    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss)
    Raises       MethodError when there are no pairs, settings do not belong together, or no word can be trained
    Source       arXiv 2303.13516, model-based form. Ours: the gradient through token 0 is not stopped, the text
                 encoder being fixed
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._pool import of_images
    from workbench.methods.erasers._training import fine_tuned, with_checkpoints

    if not pairs:
        raise MethodError("AC needs prompts with the concept and their anchors; the study gives none.")
    check_training(parameters, pairs)
    if parameters.modules == "embedding" and model.text_encoder_2 is not None:
        raise MethodError('modules = "embedding" trains one text encoder; this model has two.')
    generator = torch.Generator().manual_seed(parameters.seed)
    pool = of_images(model, pairs, parameters, max(parameters.images, len(pairs)))
    if parameters.modules == "embedding":
        from workbench.methods.erasers._embedding import Training

        training = Training(model, pairs, pool, generator, parameters)
        with_checkpoints(training, "vectors", parameters.iterations, progress, kept, keep)
        return training.table()

    def loss_of(weights):
        drawn = pool.draw(model, generator, parameters.batch)
        with torch.set_grad_enabled(parameters.prior > 0):
            target = model.predict(drawn.noised, drawn.at, pool.anchor[drawn.pair], weights)
        predicted = model.predict(drawn.noised, drawn.at, pool.concept[drawn.pair], weights)
        loss = (predicted - target.detach()).square().mean()
        return loss + parameters.prior * (target - drawn.noise).square().mean() if parameters.prior else loss

    return fine_tuned(
        model,
        trained_names(model.unet, parameters.modules),
        parameters,
        loss_of,
        progress,
        generator=generator,
        kept=kept,
        keep=keep,
    )


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    images = max(parameters.images, n_pairs) * parameters.steps * 2
    return images + parameters.iterations * parameters.batch * (2.5 + (2.5 if parameters.prior else 1))
