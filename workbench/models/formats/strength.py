"""How strong a low-rank adaptor is: read from where its trainer wrote it, never guessed from its numbers.

from_config   adapter_config.json of PEFT -> Strength
from_header   metadata in the header of a safetensors file -> {part of the model, "" for any: Strength}

factor = alpha / rank, with rslora alpha / sqrt(rank); alpha and rank may differ from module to module

Sources   rslora: arXiv 2312.03732; keys: PEFT's LoraConfig, diffusers' lora_adapter_metadata, kohya's ss_network_*, SPM's alpha and rank
"""

import json
import math
from dataclasses import dataclass, field

from workbench.errors import ModelError

HEADER = "lora_adapter_metadata"
PARTS = ("unet", "text_encoder", "text_encoder_2")
STARTS = (True, False, None, "gaussian", "orthogonal", "eva")  # ways to begin that leave the base model's weights alone
CHANGES = {
    "use_dora": "a DoRA: beside the adaptor it learns the size of every row of the weight, which no adaptor alone can hold",
    "layer_replication": "made for a model with repeated layers",
    "alora_invocation_tokens": "an aLoRA, which acts after certain words only",
    "use_qalora": "a QALoRA, made for quantised weights",
    "arrow_config": "an Arrow router over several adaptors",
    **dict.fromkeys(("velora_config", "monteclora_config", "use_bdlora", "kasa_config"), "a variant of LoRA with more than up and down"),
    "megatron_config": "made for weights that Megatron splits",
    "fan_in_fan_out": "made for weights stored the other way round",
}
LARGEST = 1e9  # of an alpha or a rank
PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


@dataclass
class Strength:
    """alpha, rank of an adaptor, and their exceptions by the end of a module's name; where they stand.

    alpha, rank   None where they are not given;  rslora   whether the factor is alpha / sqrt(rank)
    alphas, ranks {end of a module's name: alpha or rank}, the first that fits counts
    """

    source: str
    alpha: float | None = None
    rank: int | None = None
    rslora: bool = False
    alphas: dict = field(default_factory=dict)
    ranks: dict = field(default_factory=dict)

    def factor(self, module, rank):
        """(factor, how it came about) of a module whose adaptor has this rank; (None, "") where no alpha is given.

        Raises   ModelError when the rank is another than the one stated for the module
        """
        stated = _of(module, self.ranks, self.rank)
        if stated is not None and stated != rank:
            raise ModelError(f'{self.source} says rank {stated} for "{module}", its adaptor has rank {rank}. They do not belong together.')
        alpha = _of(module, self.alphas, self.alpha)
        if alpha is None:
            return None, ""
        if self.rslora:
            return alpha / math.sqrt(rank), f"alpha {alpha:g} / sqrt(rank {rank}), rslora, from {self.source}"
        return alpha / rank, f"alpha {alpha:g} / rank {rank}, from {self.source}"


def _of(module, exceptions, usual):
    """PEFT's rule, for plain names: the first entry that is the module's name or, unless it begins with ^, the end of it after a dot."""
    whole = {module, module.partition(".")[2]} if module.startswith(tuple(f"{part}." for part in PARTS)) else {module}
    fits = (value for end, value in exceptions.items() if end.removeprefix("^") in whole or module.endswith(f".{end}"))
    return next(fits, usual)


def from_config(config, path):
    """Strength of PEFT's adapter_config.json.

    Raises   ModelError for an adaptor that is no plain LoRA on the base model's own weights, or numbers that are none
    """
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise ModelError(f"{path} says that this is {json.dumps(kind)[:40]}. Only LoRA can be merged into the weights here.")
    return _settings(config, path, path.name)


def from_header(metadata, path):
    """{part of the model, "" for any: Strength} of what a header says; {} where it says nothing.

    Raises   ModelError when it says what cannot be read
    """
    if HEADER in metadata:
        try:
            settings = json.loads(metadata[HEADER])
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"{path}: {HEADER} in its header is no JSON. The adaptor's strength is not known; get the file again."
            ) from error
        if not isinstance(settings, dict):
            raise ModelError(f"{path}: {HEADER} in its header is no mapping, so the adaptor's strength is not known. Get it again.")
        by_part = {"": {key: value for key, value in settings.items() if key.partition(".")[0] not in PARTS}}
        for part in PARTS:
            by_part[part] = {key[len(part) + 1 :]: value for key, value in settings.items() if key.startswith(part + ".")}
        return {part: _settings(said, path, f"{HEADER} in its header") for part, said in by_part.items() if said}
    for alpha, rank in (("lora_alpha", "r"), ("lora_alpha", "rank"), ("ss_network_alpha", "ss_network_dim"), ("alpha", "rank")):
        if alpha in metadata and (alpha != "alpha" or rank in metadata):  # alpha alone is many things: a weight of the loss, for example
            said = {"lora_alpha": _read(metadata[alpha]), "r": _read(metadata.get(rank))}
            return {"": _settings(said, path, f"{alpha} in its header")}
    return {}


def _read(text):
    """A number of a header's text, as it stands where it is none; kohya writes None and Dynamic where modules differ."""
    if text in (None, "None", "Dynamic", ""):
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def _settings(settings, path, source):
    for key, what in CHANGES.items():
        if settings.get(key):
            raise ModelError(f"{path} is {what} ({key}). It cannot be merged as a LoRA: that would be another model.")
    start = settings.get("init_lora_weights", True)
    if (start.lower() if isinstance(start, str) else start) not in STARTS:
        raise ModelError(
            f"{path} began with {json.dumps(start)[:40]} (init_lora_weights), which changes the base model's own weights first. Merged "
            "into the plain base it would be another model. Save it with PEFT's path_initial_model_for_weight_conversion."
        )
    if not isinstance(settings.get("use_rslora"), (bool, type(None))):
        raise ModelError(f"{path}: use_rslora is neither true nor false. The adaptor's strength is not known.")
    return Strength(
        source,
        _number(settings.get("lora_alpha"), "lora_alpha", path),
        _rank(settings.get("r"), "r", path),
        bool(settings.get("use_rslora")),
        {end: _number(value, "alpha_pattern", path) for end, value in _pattern(settings, "alpha_pattern", path).items()},
        {end: _rank(value, "rank_pattern", path) for end, value in _pattern(settings, "rank_pattern", path).items()},
    )


def _pattern(settings, key, path):
    """{end of a module's name: value}. PEFT reads them as regular expressions; here plain names alone are understood."""
    found = settings.get(key) or {}
    if not isinstance(found, dict):
        raise ModelError(f"{path}: {key} is no mapping of modules to numbers. The adaptor's strength is not known.")
    named = {name.removesuffix("$").replace("\\.", "."): value for name, value in found.items()}
    odd = next((name for name in named if not name or not set(name.removeprefix("^")) <= set(PLAIN)), None)
    if odd is not None:
        raise ModelError(f"{path}: {key} names modules by {json.dumps(odd)[:80]}, which is no plain name. Its strength there is not known.")
    return named


def _number(value, key, path):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
        raise ModelError(f"{path}: {key} is {json.dumps(value)[:40]}, no number. The adaptor's strength is not known.")
    return float(value)


def _rank(value, key, path):
    number = _number(value, key, path)
    if number is not None and (number < 1 or not number.is_integer()):
        raise ModelError(f"{path}: {key} is {number:g}; a rank is a whole number from 1 upwards.")
    return None if number is None else int(number)
