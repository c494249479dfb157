"""Low-rank adaptors: kohya's names (SPM), PEFT's and both of diffusers'; merged into the weights they are added to.

Delta W = (alpha / rank) up down, alpha = rank where the file gives none

SPM's own strength depends on the prompt. Merged it is constant, which is another method; a note says so.
"""

from workbench.errors import ModelError

ENDS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".alpha": "alpha",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
}


def merged(flat, own, found):
    """({parameter: merged tensor}, names of the file that were used).

    flat    {name in the file: tensor};  own   {parameter: the base model's};  found   Checkpoint that gets formats and notes
    Raises  ModelError when a pair lacks one half, or does not fit the weight it is for
    """
    table = _modules(own)
    pairs, used = {}, set()
    for name, value in flat.items():
        end = next((end for end in ENDS if name.endswith(end)), None)
        parameter = table.get(_module(name, end)) if end else None
        if parameter:
            pairs.setdefault(parameter, {})[ENDS[end]] = value.detach()
            used.add(name)
    result = {}
    for parameter, parts in pairs.items():
        if not {"up", "down"} <= set(parts):
            raise ModelError(f'{found.path}: the adaptor of "{parameter}" has only {", ".join(sorted(parts))}; down and up are needed.')
        result[parameter] = _added(parameter, parts, own[parameter], found)
    if result:
        kohya = any(name.startswith("lora_unet_") for name in used)
        found.formats.append("kohya LoRA" if kohya else "LoRA")
        strength = " SPM as plain LoRA: its strength would depend on the prompt, here it is 1." if kohya else ""
        found.notes.append(f"{len(result)} adaptors of rank {_rank(pairs)} were merged into the weights.{strength}")
    return result, used


def _modules(own):
    """{module as files spell it: parameter} of every weight."""
    found = {}
    for parameter in own:
        if not parameter.endswith(".weight"):
            continue
        part, _, module = parameter.removesuffix(".weight").partition(".")
        spellings = [parameter.removesuffix(".weight"), module] if part == "unet" else [parameter.removesuffix(".weight")]
        plain = module.removeprefix("text_model.")
        short = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_", "text_encoder_2": "lora_te2_text_model_"}[part]
        spellings.append(short + plain.replace(".", "_"))
        for old in ("to_q", "to_k", "to_v", "to_out"):
            leaf = f".{old}.0" if old == "to_out" else f".{old}"
            if module.endswith(leaf):
                spellings += [f"{start}{module.removesuffix(leaf)}.processor.{old}" for start in ("", "unet.") if part == "unet"]
        found |= dict.fromkeys(spellings, parameter)
    return found


def _module(name, end):
    return name.removesuffix(end).removeprefix("base_model.model.")


def _added(parameter, parts, weight, found):
    import torch

    up, down = parts["up"].float(), parts["down"].float()
    rank = down.shape[0]
    scale = float(parts["alpha"]) / rank if "alpha" in parts else 1.0
    if up.shape[1] != rank or (up.shape[0], down[0].numel()) != (weight.shape[0], weight[0].numel()):
        raise ModelError(
            f'{found.path} is for another base: its adaptor of "{parameter}" is {tuple(up.shape)} x {tuple(down.shape)}, the weight '
            f"{tuple(weight.shape)}."
        )
    change = scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    return (weight.detach().cpu().to(torch.promote_types(weight.dtype, torch.float32)) + change).to(weight.dtype)


def _rank(pairs):
    ranks = sorted({parts["down"].shape[0] for parts in pairs.values()})
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
