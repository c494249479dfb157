"""Load a base model: bundled, a diffusers folder, a hub id or a single file.

A `Model` wraps the public parts of a diffusers pipeline; nothing else in the workbench touches the pipeline object.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from workbench import foreign, resources, textfile
from workbench.errors import ModelError, first_line, nearest
from workbench.memory import give_back_much
from workbench.models import channels, hub, kinds, text
from workbench.models.formats import container
from workbench.storage import digest, file_digest, tensors_digest

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
GET = " Get it once where the hub is in reach (hf download {name}), or give a folder or file: --set model.base=PATH."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
READING_ERRORS = (*foreign.READING_ERRORS, SafetensorError, StrictDataclassError)  # the last: a config.json with a value of another type


@dataclass
class Model:
    """A text-to-image diffusion model: parts of the pipeline, frozen, in eval mode.

    unet, vae, text_encoder       torch modules
    tokenizer, scheduler          as in the pipeline; the scheduler is only a template, each run makes its own
    text_encoder_2, tokenizer_2   of SDXL, else None
    zero_uncond                   whether the uncond branch gets zeros instead of the states of the empty prompt
    guidance, transform           the rule of guidance and the prompt transform of a variant that is applied (`models/changes`)
    corrector                     its corrector;  detectors: what opens the detector that a corrector names, None where nobody does
    as_base                       whether all these are left aside now
    expected_guidance             the scale of guidance that images are sampled with, for attacks on a rule of guidance
    expected_steps                the steps that they are sampled with, for prompt transforms
    offload                       whether text encoders and VAE wait in the computer's memory and come to the device to be used (`at_work`)
    """

    name: str
    unet: torch.nn.Module
    vae: torch.nn.Module
    text_encoder: torch.nn.Module
    tokenizer: Any
    scheduler: Any
    text_encoder_2: torch.nn.Module | None = None
    tokenizer_2: Any = None
    zero_uncond: bool = False
    guidance: Any = None
    transform: Any = None
    corrector: Any = None
    detectors: Any = None
    as_base: bool = False
    expected_guidance: float = 7.5
    expected_steps: int = 50
    offload: bool = False

    @property
    def device(self):
        """Where the UNet is."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self):
        """The UNet's floating point type."""
        return next(self.unet.parameters()).dtype

    @contextmanager
    def at_work(self, *modules):
        """While open, these modules are where the UNet is. With `offload` they go back to the computer's memory afterwards, but not while
        gradients are recorded: the backward pass still needs what is on the device."""
        for module in modules if self.offload else ():
            module.to(self.device)
        try:
            yield
        finally:
            if self.offload and not torch.is_grad_enabled():
                for module in modules:
                    module.to("cpu")

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

    @property
    def text_encoders(self):
        """The text encoders in the order of their channels in the text states; list of one or two modules."""
        return [self.text_encoder] if self.text_encoder_2 is None else [self.text_encoder, self.text_encoder_2]

    @property
    def modules(self):
        """{name of the part: torch module}, the second text encoder only where there is one."""
        parts = ("unet", "vae", "text_encoder", "text_encoder_2")
        return {part: getattr(self, part) for part in parts if getattr(self, part) is not None}

    def new_scheduler(self, n_steps):
        """A fresh scheduler with its timesteps set; stateful ones (PNDM, Heun) must not be shared."""
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(n_steps)
        return scheduler

    def parameters(self):
        """{"unet.<name>", "text_encoder.<name>" or "text_encoder_2.<name>": parameter}: everything a variant may change."""
        return {
            f"{part}.{name}": parameter
            for part, module in self.modules.items()
            if part != "vae"
            for name, parameter in module.named_parameters()
        }

    def digest(self):
        """sha256 over all weights a variant may change, as they are now."""
        return tensors_digest(self.parameters())

    def run_unet(self, latents, timestep, states, weights=None):
        """The UNet's own output (row, channel, height, width): what the scheduler's `step` expects.

        latents    (row, channel, height, width) as the scheduler scales them
        timestep   one for all rows, or (row,)
        states     (row, token, channel) as `text.encode` gives them. SDXL's hold the pooled text too; its UNet is told the model's
                   own image size as original and target size, and that nothing is cropped
        weights    {parameter of the UNet: tensor} in the place of its own, so that gradients reach them
        """
        with text.asked(self, latents, timestep, states) as seen:
            return self.run_on(self.unet, latents, timestep, seen, weights)

    def run_on(self, unet, latents, timestep, states, weights=None):
        """As `run_unet`, of a UNet of this kind, on the text states that it sees at this call."""
        given = {"encoder_hidden_states": states}
        if self.text_encoder_2 is not None:
            tokens, pooled = text.unpacked(states, self.text_encoder_2.config.projection_dim)
            height, width = (side * self.vae_scale for side in self.latent_shape[1:])
            sizes = states.new_tensor([height, width, 0, 0, height, width]).expand(len(states), -1)
            given = {"encoder_hidden_states": tokens, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}
        if weights is None:
            return unet(latents, timestep, **given).sample
        return torch.func.functional_call(unet, weights, (latents, timestep), given).sample

    def predict(self, latents, timestep, states, weights=None):
        """The noise (row, channel, height, width) that the UNet sees in latents x_t; arguments as for `run_unet`.

        eps = the UNet's output, or, of a UNet that predicts v, sqrt(abar_t) v + sqrt(1 - abar_t) x_t (arXiv 2202.00512)
        """
        output = self.run_unet(latents, timestep, states, weights)
        if self.scheduler.config.prediction_type == "epsilon":
            return output
        signal = self.signal(timestep, latents)
        return signal.sqrt() * output + (1 - signal).sqrt() * latents

    def clean(self, latents, timestep, output):
        """x0hat (row, channel, height, width): the image that the UNet's output at x_t predicts.

        (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t), or, of a UNet that predicts v, sqrt(abar_t) x_t - sqrt(1 - abar_t) v
        """
        signal = self.signal(timestep, latents)
        if self.scheduler.config.prediction_type == "epsilon":
            return (latents - (1 - signal).sqrt() * output) / signal.sqrt()
        return signal.sqrt() * latents - (1 - signal).sqrt() * output

    def signal(self, timestep, like):
        """abar_t of the model's schedule, (row or 1, 1, 1, 1) in the type of `like`; between two timesteps interpolated."""
        alphas = self.scheduler.alphas_cumprod.to(like.device)
        at = torch.as_tensor(timestep, device=like.device, dtype=alphas.dtype).reshape(-1, 1, 1, 1)
        low = at.floor().long()
        return torch.lerp(alphas[low], alphas[at.ceil().long()], at - low).to(like.dtype)

    @torch.no_grad()
    def decode(self, latents, batch=16):
        """Latents (n, channel, height, width) -> images (n, 3, height, width) float in [0, 1] on the CPU.

        What is not finite comes out as NaN, so that infinity does not pass for white.
        """
        images = torch.cat([self.decode_with_gradient(part).cpu() for part in latents.split(batch)])
        return torch.where(images.isfinite(), images.clamp(0, 1), torch.nan)

    def decode_with_gradient(self, latents):
        """As `decode`, on the device, unclamped, differentiable."""
        latents = latents.to(self.device, self.vae.dtype) / self.vae.config.scaling_factor
        with self.at_work(self.vae):
            return self.vae.decode(latents).sample.float() / 2 + 0.5


def _check_finite(module, part, name):
    for parameter, value in module.named_parameters():
        if not value.isfinite().all():
            raise ModelError(
                f'The model "{name}" holds weights that are not finite, e.g. "{part}.{parameter}": every image of it would be broken. '
                "Get the model again, or load it in float32 if its weights are only too large for float16."
            )


def from_pipeline(pipeline, name, device="cpu", dtype=torch.float32, offload=False):
    """Wrap a diffusers pipeline.

    offload   whether only the UNet stays on the device; see `Model.at_work`
    Raises   ModelError when it is of a kind that does not work (see `kinds`), or holds weights that are not finite
    """
    kinds.check(pipeline, name)
    two = pipeline.unet.config.addition_embed_type == "text_time"
    parts = {}
    for part in ("unet", "vae", "text_encoder", *(["text_encoder_2"] if two else [])):
        module = getattr(pipeline, part)
        overflows = two and part == "vae" and dtype == torch.float16 and module.config.force_upcast  # SDXL's first VAE
        rests = "cpu" if offload and part != "unet" else device
        module = module.to(device=rests, dtype=torch.float32 if overflows else dtype).eval()
        if part in ("unet", "vae") and torch.device(device).type in ("cpu", "cuda"):
            module = module.to(memory_format=torch.channels_last)  # faster convolutions; equal to rounding
        _check_finite(module, part, name)
        parts[part] = module.requires_grad_(False)
    if two:
        parts |= {"tokenizer_2": pipeline.tokenizer_2, "zero_uncond": bool(pipeline.config.get("force_zeros_for_empty_prompt"))}
    return Model(name, tokenizer=pipeline.tokenizer, scheduler=pipeline.scheduler, offload=offload, **parts)


def check_device(name):
    """The device as torch knows it.

    Raises   ModelError that lists what is there: for no device at all, and for one that this machine, or this torch, does not have
    """
    there = devices()
    try:
        found = torch.device(name)
    except (RuntimeError, TypeError):
        raise ModelError(f'No device is called "{name}".{nearest(name, there)}') from None
    kinds_there = {one.partition(":")[0] for one in there}
    if found.type in kinds_there and (found.index is None or str(found) in (*there, "cpu:0", "mps:0")):
        return found
    why = f"has no {found.type} device" if found.type not in kinds_there else "has fewer devices of this kind"
    built = " and this torch was built without CUDA" if found.type == "cuda" and torch.version.cuda is None else ""
    raise ModelError(
        f'The device "{name}" is not there: this machine {why}{built}. Possible: {", ".join(there)}, e.g. --device {there[-1]}.'
    )


def devices():
    """Names of the devices that torch can use here, the CPU first."""
    found = ["cpu"]
    for kind in ("cuda", "xpu"):
        part = getattr(torch, kind, None)
        if part is not None and part.is_available():
            found += [f"{kind}:{place}" for place in range(part.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def load(name, device="cpu", dtype=torch.float32, beside=".", offload=False):
    """Load a base model by bundled name, folder, single file or hub id (local cache first).

    beside    folder where a file or folder of that name is looked for first: that of the study
    offload   whether only the UNet stays on the device; see `Model.at_work`

    A single file holds weights only. Configuration and tokenizers are those of a diffusers folder of the same name beside it
    (whose weights are not read), or else what diffusers knows for its kind, from the cache or the hub.

    Raises   ModelError when it is missing, truncated or of another kind, or the device is not there
    """
    device = check_device(device)
    model = from_pipeline(pipeline(name, dtype, beside), name, device, dtype, offload)
    give_back_much()
    return model


def of_study(table, device="cpu", beside="."):
    """The base model that the table `[model]` of a study describes; see `load`."""
    return load(table.base, device, DTYPES[table.dtype], beside, table.offload)


def place(name, beside="."):
    """Where a base model is: the folder of a bundled one, a file or folder beside the study or as given; None for a hub id."""
    return resources.find_model(name, beside)


def pipeline(name, dtype=torch.float32, beside="."):
    """The diffusers pipeline behind a name, as `load` reads it.

    Raises   ModelError when it is missing or truncated
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
        logging.set_verbosity_error()

    where = place(name, beside)
    if name in resources.BUNDLED_MODELS and not where.is_dir():
        raise ModelError(f'The bundled model "{name}" is not at {where}. Build it with: make emoji')
    if where is None and not HUB_ID.fullmatch(name):
        raise ModelError(
            f'No model "{name}": it is no file or folder, no bundled model ({", ".join(resources.BUNDLED_MODELS)}) and no hub id '
            f"(owner/name). "
            f"{resources.looked(name, beside)}"
        )
    if where is not None and where.is_dir() and not (where / "model_index.json").is_file():
        raise ModelError(
            f'The folder "{where}" has no model_index.json, so it is no diffusers pipeline. '
            "Give the folder that holds unet/, vae/ and text_encoder/."
        )
    try:
        if where is None:
            return _from_hub(name, dtype, beside)
        if where.is_dir():
            return _from_folder(where, dtype)
        textfile.check_regular(where, ModelError)
        return _from_file(where, dtype)
    except ModelError:
        raise
    except READING_ERRORS as error:
        raise ModelError(f'The model "{name}" cannot be loaded: {first_line(error)}{"" if where else GET.format(name=name)}') from error


def _from_hub(name, dtype, beside):
    """A pipeline of the hub: from the local cache, else from the hub itself when it answers."""
    try:
        return _from_folder(name, dtype)
    except READING_ERRORS as error:
        why = hub.unreachable()
        if why is None:
            return _from_folder(name, dtype, local=False)
        held = "only a part of it is in the local cache" if hub.cached(name) else "it is not in the local cache"
        raise ModelError(
            f'The model "{name}" is no file or folder here ({resources.looked(name, beside).rstrip(".")}). As a hub id, {held}, and the '
            f"hub cannot be reached: {why.rstrip('.')}.{GET.format(name=name)}"
        ) from error


def _from_file(path, dtype):
    kind = kinds.single_file(path)
    beside = path.with_suffix("")
    config = {"config": str(beside)} if (beside / "model_index.json").is_file() else {}
    without = {} if "XL" in kind.__name__ else {"safety_checker": None, "requires_safety_checker": False}
    try:
        return kind.from_single_file(str(path), dtype=dtype, local_files_only=True, **config, **without)
    except READING_ERRORS as error:
        if config:
            raise
        if hub.unreachable() is None:
            return kind.from_single_file(str(path), dtype=dtype, **without)
        raise OSError(
            f"{first_line(error)} A single file holds no configuration: put a diffusers folder of its kind beside it as {beside} "
            "(model_index.json, each part's config.json, the tokenizers), or load it once with the hub in reach."
        ) from error


def _from_folder(where, dtype, local=True):
    from diffusers import DiffusionPipeline

    kinds.check_index(DiffusionPipeline.load_config(where, local_files_only=local), str(where))
    given = {"dtype": dtype, "safety_checker": None, "requires_safety_checker": False, "local_files_only": local}
    try:
        return DiffusionPipeline.from_pretrained(where, **given)
    except READING_ERRORS:
        student = _student(Path(where) / "unet", dtype)
        if student is None:
            raise
    return DiffusionPipeline.from_pretrained(where, unet=student, **given)


def _student(folder, dtype):
    """The UNet of a folder that has fewer channels than its config.json says, in the shapes of the architecture; None for any other, and
    where its weights cannot be read.

    Raises   ModelError when it does not say which channels are kept, or what it says does not fit
    """
    from diffusers import UNet2DConditionModel

    if not (folder / "config.json").is_file():
        return None
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder))
    own = {f"unet.{name}": value for name, value in unet.named_parameters()}
    try:
        given = {f"unet.{name}": shape for name, shape in container.shapes(folder).items()}
    except ModelError:
        return None
    groups = channels.of(unet)
    counts = {layer: n for layer, group in groups.items() if (n := channels.fewer(group, given, own)) is not None}
    if not counts:
        return None
    keep = channels.checked(container.kept(folder), groups, counts, folder)
    untold = sorted(counts.keys() - keep.keys())
    if untold:
        raise ModelError(
            f'{folder} has fewer channels than its config.json says, in {len(counts)} layers, and does not say which of "{untold[0]}" are '
            f"kept. Put a file {channels.ENTRY}.json into it ({{layer: [indices that are kept]}}); or give the model that it was made from "
            'as base, and this folder as a variant (method = "from_checkpoint"): there its channels are told by their weights.'
        )
    tensors = {f"unet.{name}": value for name, value in container.contents(folder).content["unet"].items()}
    wide = channels.full(groups, tensors, keep)
    unet.load_state_dict({name.removeprefix("unet."): value for name, value in wide.items()})
    return unet.to(dtype)


def source_digest(name, beside="."):
    """Digest of a base model's files, without loading it; of the name alone for a hub id.

    beside   folder where it is looked for first: that of the study
    """
    where = place(name, beside)
    if where is None:
        return digest(["hub", name])
    if where.is_file():
        beside = where.with_suffix("")
        return digest([file_digest(where), source_digest(str(beside))]) if beside.is_dir() else file_digest(where)
    files = sorted(p for p in where.rglob("*") if p.suffix in (".safetensors", ".json", ".bin", ".txt") and p.is_file())
    return digest([[str(p.relative_to(where)), file_digest(p)] for p in files])
