"""Which pipelines work: a UNet that denoises from text states, with one CLIP text encoder, or two as in SDXL.

check_index    what a model_index.json names, before any weight is read
check          a loaded pipeline
single_file    the pipeline class that reads a single file
"""

from workbench.errors import ModelError

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PREDICTIONS = ("epsilon", "v_prediction")
POSSIBLE = "Stable Diffusion 1.x and 2.x (one CLIP text encoder) and SDXL base (two) work, and what was fine-tuned from them."
# settings of a UNet that ask for inputs which the text alone does not give
FURTHER_INPUTS = ("class_embed_type", "num_class_embeds", "time_cond_proj_dim", "encoder_hid_dim_type")


def check_index(index, name):
    """Check the mapping of a model_index.json; a part that is null there is missing.

    Raises   ModelError when a part is missing
    """
    for part in PARTS:
        if not (index.get(part) or [None])[0]:
            _refuse(name, index.get("_class_name", "of no class"), f"has no {part}")


def check(pipeline, name):
    """Check a loaded pipeline.

    Raises   ModelError when a part is missing, the UNet needs more than text, noise cannot be told from what it predicts, or
             two text encoders do not belong together
    """
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    kind = type(pipeline).__name__
    for part in PARTS:
        if getattr(pipeline, part, None) is None:
            _refuse(name, kind, f"has no {part}")
    if not isinstance(pipeline.unet, UNet2DConditionModel):
        _refuse(name, kind, f"has a {type(pipeline.unet).__name__} as UNet")
    if not isinstance(pipeline.text_encoder, CLIPTextModel):
        _refuse(name, kind, f"has a {type(pipeline.text_encoder).__name__} as text encoder")
    unet, vae = pipeline.unet.config, pipeline.vae.config
    if unet.in_channels != vae.latent_channels:
        _refuse(name, kind, f"has a UNet of {unet.in_channels} input channels for latents of {vae.latent_channels}: it edits images")
    for setting in FURTHER_INPUTS:
        if unet.get(setting) is not None:
            _refuse(name, kind, f"has a UNet that needs more than text ({setting} = {unet[setting]})")
    if vae.get("latents_mean") is not None or vae.get("shift_factor") is not None:
        _refuse(name, kind, "has a VAE whose latents are shifted")
    _check_scheduler(pipeline, name, kind)
    if unet.addition_embed_type == "text_time":
        _check_two_encoders(pipeline, name, kind)
    elif unet.addition_embed_type is not None or getattr(pipeline, "text_encoder_2", None) is not None:
        _refuse(name, kind, f"has a UNet with addition_embed_type = {unet.addition_embed_type}")


def _check_scheduler(pipeline, name, kind):
    predicts = pipeline.scheduler.config.get("prediction_type")
    if getattr(pipeline.scheduler, "alphas_cumprod", None) is None or predicts not in PREDICTIONS:
        _refuse(
            name, kind, f"has a {type(pipeline.scheduler).__name__} with prediction_type = {predicts}: {' or '.join(PREDICTIONS)} is needed"
        )


def _check_two_encoders(pipeline, name, kind):
    """Vectors before a prompt stand in both encoders at once, so both must cut words into the same tokens."""
    from transformers import CLIPTextModelWithProjection

    first, second = pipeline.tokenizer, getattr(pipeline, "tokenizer_2", None)
    encoder = getattr(pipeline, "text_encoder_2", None)
    if second is None or not isinstance(encoder, CLIPTextModelWithProjection):
        _refuse(name, kind, "has a UNet of SDXL, but no second CLIP text encoder with projection and tokenizer")
    if first.get_vocab() != second.get_vocab() or first.model_max_length != second.model_max_length:
        _refuse(name, kind, "has two tokenizers of different vocabulary or length")
    channels = pipeline.text_encoder.config.hidden_size + encoder.config.hidden_size
    pooled, unet = encoder.config.projection_dim, pipeline.unet.config
    if unet.cross_attention_dim != channels or pooled > channels:
        _refuse(name, kind, f"has text encoders of {channels} channels together for a UNet that takes {unet.cross_attention_dim}")
    if unet.projection_class_embeddings_input_dim != pooled + 6 * unet.addition_time_embed_dim:
        _refuse(name, kind, "has a UNet that needs more than the pooled text and six sizes, as the SDXL refiner")


def single_file(path):
    """The diffusers class that reads a single file, told by the text encoders in it; pickles are taken for Stable Diffusion.

    Raises   ModelError when a safetensors file holds no whole model
    """
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return StableDiffusionPipeline
    with safe_open(path, "pt") as file:
        keys = list(file.keys())
    held = {key.split(".")[0] for key in keys}
    if any(key.startswith("conditioner.embedders.1.") for key in keys):
        return StableDiffusionXLPipeline
    if {"model", "first_stage_model", "cond_stage_model"} <= held:
        return StableDiffusionPipeline
    raise ModelError(
        f'The file "{path}" is no whole Stable Diffusion model: UNet, VAE and text encoder (model, first_stage_model, and '
        f"cond_stage_model or conditioner) are needed, found {', '.join(sorted(held)[:6]) or 'nothing'}. {POSSIBLE} "
        "Weights of a UNet alone are a variant, not a base."
    )


def _refuse(name, kind, why):
    raise ModelError(f'The pipeline "{name}" ({kind}) {why}. {POSSIBLE}')
