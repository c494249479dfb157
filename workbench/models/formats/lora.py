"""Low-rank adaptors: kohya's names (SPM), PEFT's and both of diffusers'; merged into the weights they are added to.

Delta W = multiplier * factor * up down,  factor = alpha / rank, with rslora alpha / sqrt(rank)

alpha is the module's own tensor, or else what adapter_config.json or the header say (`strength`), or else the rank: then the factor
is 1, and a note says that it is assumed. Adaptors that are more than up and down (DoRA, LoHa, ...) are refused: merged as a LoRA
they would be another model.

SPM's own strength depends on the prompt. Merged it is constant, which is another method; a note says so.
"""

from workbench.errors import ModelError
from workbench.models.formats import tensors

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
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
}
SHOWN = 3
PEFT_START = "base_model.model."
OTHERS = {
    "lora_magnitude_vector": "DoRA",
    "dora_scale": "DoRA",
    ".hada_w": "LoHa",
    ".lokr_w": "LoKr",
    ".oft_": "OFT",
    ".lora_mid.": "LoCon with a middle part",
    "lora_E": "AdaLoRA",
    ".ia3_l": "IA3",
    "vera_lambda": "VeRA",
}


def is_adaptor(names):
    """Whether some of the names are an adaptor's."""
    return any(any(name.endswith(end) for end in ENDS if end != ".alpha") or _other(name) for name in names)


def merged(flat, own, found, strengths=None, multiplier=1.0):
    """({parameter: merged tensor}, names of the file that were used).

    flat        {name in the file: tensor};  own   {parameter: the base model's};  found   Checkpoint that gets formats and notes
    strengths   {part of the model, "" for any: Strength}
    multiplier  of every adaptor; -1 takes away what it adds
    Raises      ModelError when a pair lacks one half, does not fit the weight it is for, or is more than a LoRA
    """
    if not is_adaptor(flat):
        return {}, set()
    other = next((name for name in flat if _other(name)), None)
    if other:
        raise ModelError(
            f'{found.path} is a {_other(other)} ("{other}"), more than a low-rank adaptor. Merged as a LoRA it would be another model, so '
            "it is not read, not in part either. Merge it into the weights with the tool that made it, and give the merged checkpoint."
        )
    table = _modules(own)
    pairs, used, spelt = {}, set(), {}
    for name, value in flat.items():
        end = next((end for end in ENDS if name.endswith(end)), None)
        module = _module(name, end) if end else None
        parameter = table.get(module)
        if parameter:
            if ENDS[end] in pairs.setdefault(parameter, {}):
                raise ModelError(f'{found.path} has two adaptors of "{parameter}". It cannot be told which one is meant.')
            pairs[parameter][ENDS[end]] = value.detach()
            spelt[parameter] = module
            used.add(name)
    _refuse_more(flat, used, spelt, found)
    result, factors = {}, {}
    for parameter, parts in pairs.items():
        if not {"up", "down"} <= set(parts):
            raise ModelError(f'{found.path}: the adaptor of "{parameter}" has only {", ".join(sorted(parts))}; down and up are needed.')
        problem = next((why for why in map(tensors.unfit, parts.values()) if why), None)
        if problem:
            found.unfit.append({"parameter": parameter, "problem": problem, "n": sum(part.numel() for part in parts.values())})
            continue
        _check_shapes(parameter, parts, own[parameter], found)
        factor, why = _factor(parameter, spelt[parameter], parts, strengths or {}, found)
        factors.setdefault((factor, why), []).append(parameter)
        result[parameter] = _added(parts, own[parameter], multiplier * factor)
    if result:
        kohya = any(name.startswith(("lora_unet_", "lora_te")) for name in used)
        found.formats.append("kohya LoRA" if kohya else "LoRA")
        found.notes.append(_said(pairs, factors, multiplier, kohya))
        found.adaptors = len(result)
        found.factors = sorted({factor for factor, _ in factors})
    return result, used


def _other(name):
    if name.endswith((".diff", ".diff_b")):
        return "LyCORIS with full differences"
    return next((kind for part, kind in OTHERS.items() if part in name), None)


def _refuse_more(flat, used, spelt, found):
    """What belongs to a merged module beside up, down and alpha changes what the adaptor does: no part of it is taken alone."""
    modules = set(spelt.values())
    longest = max(map(len, modules), default=0) + len(PEFT_START)
    for name in flat:
        last = len(name) if name.startswith("lora_") else name.rfind("lora")
        cuts = [at for at in range(min(longest + 1, len(name))) if name[at] == "." and at < last]
        if name not in used and any(_module(name[:at], "") in modules for at in cuts):
            raise ModelError(
                f'{found.path}: the adaptor has more than up, down and alpha ("{name}"). Merged without it, it would be another model. '
                "Merge it into the weights with the tool that made it, and give the merged checkpoint."
            )


def _modules(own):
    """{module as files spell it: parameter} of every weight."""
    found = {}
    for parameter in own:
        if not parameter.endswith(".weight"):
            continue
        part, _, module = parameter.removesuffix(".weight").partition(".")
        plain = module.removeprefix("text_model.")
        if part == "unet":
            spellings = [f"unet.{module}", module, f"lora_unet_{module.replace('.', '_')}"]
        else:
            spellings = [f"{part}.{module}", f"{part}.{plain}", f"{part}.text_model.{plain}"]
            shorts = {"text_encoder": ("lora_te_", "lora_te1_"), "text_encoder_2": ("lora_te2_",)}[part]
            spellings += [f"{short}text_model_{plain.replace('.', '_')}" for short in shorts]
            if part == "text_encoder":
                spellings += [plain, f"text_model.{plain}"]
        for old in ("to_q", "to_k", "to_v", "to_out"):
            leaf = f".{old}.0" if old == "to_out" else f".{old}"
            if module.endswith(leaf):
                spellings += [f"{start}{module.removesuffix(leaf)}.processor.{old}" for start in ("", "unet.") if part == "unet"]
        found |= dict.fromkeys(spellings, parameter)
    return found


def _module(name, end):
    return name.removesuffix(end).removeprefix(PEFT_START)


def _check_shapes(parameter, parts, weight, found):
    up, down = parts["up"], parts["down"]
    fits = up.dim() in (2, 4) and down.dim() in (2, 4) and down.shape[0] > 0 and up.shape[1] == down.shape[0]
    if not fits or (up.shape[0], up[0, 0].numel(), down[0].numel()) != (weight.shape[0], 1, weight[0].numel()):
        raise ModelError(
            f'{found.path} is for another base: its adaptor of "{parameter}" is {tuple(up.shape)} x {tuple(down.shape)}, the weight '
            f"{tuple(weight.shape)}."
        )


def _factor(parameter, module, parts, strengths, found):
    """(factor, how it came about) of one adaptor."""
    rank = parts["down"].shape[0]
    if "alpha" in parts:
        if parts["alpha"].numel() != 1 or not parts["alpha"].isfinite().all():
            raise ModelError(f'{found.path}: the alpha of "{parameter}" is no number. The adaptor\'s strength is not known.')
        alpha = float(parts["alpha"])
        return alpha / rank, f"alpha {alpha:g} / rank {rank}, from the file"
    part = parameter.partition(".")[0]
    stated = strengths.get(part, strengths.get(""))
    factor, why = stated.factor(module, rank) if stated else (None, "")
    return (1.0, "") if factor is None else (factor, why)


def _added(parts, weight, factor):
    import torch

    up, down = parts["up"].float(), parts["down"].float()
    change = factor * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    return (weight.detach().cpu().to(torch.promote_types(weight.dtype, torch.float32)) + change).to(weight.dtype)


def _said(pairs, factors, multiplier, kohya):
    """Sentences: how many adaptors, of what rank, with what factor and where it comes from."""
    ranks = sorted({parts["down"].shape[0] for parts in pairs.values()})
    rank = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    n = sum(map(len, factors.values()))
    by_number = sorted(factors.items(), key=lambda one: -len(one[1]))
    told = [f"the factor {factor:g}" + (f" ({why})" if why else "") for (factor, why), _ in by_number]
    if len(told) == 1:
        said = f"{n} adaptors of rank {rank} were merged into the weights with {told[0]}."
    else:
        listed = ", ".join(f"{len(some)} with {one}" for one, (_, some) in list(zip(told, by_number, strict=True))[:SHOWN])
        more = f", the others with {len(told) - SHOWN} further factors" if len(told) > SHOWN else ""
        said = f"{n} adaptors of rank {rank} were merged into the weights: {listed}{more}."
    assumed = sum(len(some) for (_, why), some in factors.items() if not why)
    if assumed:
        of = "" if assumed == n else f" for {assumed} of them"
        said += f" No alpha is given{of}, neither in the file nor in a configuration beside it: 1 is assumed."
    if multiplier != 1:
        said += f" Each counts {multiplier:g} times (multiplier)."
    return said + (" SPM as plain LoRA: its strength would depend on the prompt, here it is constant." if kohya else "")
