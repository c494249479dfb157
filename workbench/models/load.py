"""Load a base model: bundled, a diffusers folder, a hub id or a single file.

A `Model` wraps the public parts of a diffusers pipeline; nothing else in the workbench touches the pipeline object.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from workbench import resources
from workbench.errors import ModelError
from workbench.storage import tensors_digest

BUNDLED = {"emoji": "emoji/model"}


@dataclass
class Model:
    """A text-to-image diffusion model: parts of the pipeline, frozen, in eval mode.

    unet, vae, text_encoder   torch modules
    tokenizer, scheduler      as in the pipeline; the scheduler is only a template, each run makes its own
    """

    name: str
    unet: torch.nn.Module
    vae: torch.nn.Module
    text_encoder: torch.nn.Module
    tokenizer: object
    scheduler: object

    @property
    def device(self):
        """Where the UNet is."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self):
        """The UNet's floating point type."""
        return next(self.unet.parameters()).dtype

    @property
    def latent_shape(self):
        """(channel, height, width) of one latent."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.unet.config.in_channels, height, width

    @property
    def vae_scale(self):
        """Pixels per latent position along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def new_scheduler(self, n_steps):
        """A fresh scheduler with its timesteps set; stateful ones (PNDM, Heun) must not be shared."""
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(n_steps)
        return scheduler

    def parameters(self):
        """{"unet.<name>" or "text_encoder.<name>": parameter}: everything a variant may change."""
        return {
            f"{part}.{name}": parameter for part in ("unet", "text_encoder") for name, parameter in getattr(self, part).named_parameters()
        }

    def digest(self):
        """sha256 over all weights a variant may change, as they are now."""
        return tensors_digest(self.parameters())

    @torch.no_grad()
    def decode(self, latents, batch=16):
        """Latents (n, channel, height, width) -> images (n, 3, height, width) float in [0, 1] on the CPU."""
        parts = [self.decode_with_gradient(part).cpu() for part in latents.split(batch)]
        return torch.cat(parts).clamp(0, 1)

    def decode_with_gradient(self, latents):
        """As `decode`, on the device, unclamped, differentiable."""
        latents = latents.to(self.device, self.vae.dtype) / self.vae.config.scaling_factor
        return self.vae.decode(latents).sample.float() / 2 + 0.5


def from_pipeline(pipeline, name, device="cpu", dtype=torch.float32):
    """Wrap a diffusers pipeline.

    Raises   ModelError when it is not a UNet pipeline with one text encoder
    """
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        if getattr(pipeline, part, None) is None:
            raise ModelError(
                f'The pipeline "{name}" ({type(pipeline).__name__}) has no {part}. '
                "A Stable Diffusion pipeline with UNet, VAE, text encoder, tokenizer and scheduler is needed."
            )
    parts = {}
    for part in ("unet", "vae", "text_encoder"):
        module = getattr(pipeline, part).to(device=device, dtype=dtype).eval()
        if part != "text_encoder" and torch.device(device).type == "cpu":
            module = module.to(memory_format=torch.channels_last)  # faster convolutions; equal to rounding
        parts[part] = module.requires_grad_(False)
    return Model(name, tokenizer=pipeline.tokenizer, scheduler=pipeline.scheduler, **parts)


def load(name, device="cpu", dtype=torch.float32):
    """Load a base model by bundled name, folder, single file or hub id (local cache first).

    Raises   ModelError when it is missing, truncated or of another kind
    """
    from diffusers import DiffusionPipeline, StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
        logging.set_verbosity_error()

    where = resources.folder("data") / BUNDLED[name] if name in BUNDLED else Path(name)
    options = {"safety_checker": None, "requires_safety_checker": False}
    if name in BUNDLED and not where.is_dir():
        raise ModelError(f'The bundled model "{name}" is not at {where}. Build it with: make emoji')
    try:
        if where.is_file():
            pipeline = StableDiffusionPipeline.from_single_file(str(where), dtype=dtype, **options)
        elif where.is_dir():
            if not (where / "model_index.json").is_file():
                raise ModelError(
                    f'The folder "{where}" has no model_index.json, so it is no diffusers pipeline. '
                    "Give the folder that holds unet/, vae/ and text_encoder/."
                )
            pipeline = DiffusionPipeline.from_pretrained(where, dtype=dtype, local_files_only=True, **options)
        else:
            if name.count("/") != 1:
                raise ModelError(
                    f'No model "{name}": it is no file or folder, no bundled model ({", ".join(BUNDLED)}) and no hub id (owner/name).'
                )
            pipeline = DiffusionPipeline.from_pretrained(name, dtype=dtype, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f'The model "{name}" cannot be loaded: {_first_line(error)}') from error
    return from_pipeline(pipeline, name, device, dtype)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
