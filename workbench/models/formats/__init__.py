"""Published checkpoints of erased models -> tensors under the names of a base model.

read         a file or folder -> Checkpoint
check        refuse what does not fit, is no set of weights, or changes nothing
check_header the same from names and shapes in the header alone, where there is one: no weight is read
FORMATS      the published ways of naming tensors, one file each: `names(model)` {name in the file: parameter}, `IGNORED`
             {beginning of a name: why it is left aside}

A file is told by the names of its tensors, looked up in tables made from the model's own names; nothing is guessed from its own name.
"""

from dataclasses import dataclass, field

import torch

from workbench.errors import ModelError
from workbench.models import channels
from workbench.models.formats import compvis, container, diffusers_unet, lora, tensors, text_encoder

FORMATS = {"diffusers": diffusers_unet, "CompVis": compvis, "text encoder": text_encoder}
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
PREFIXES = ("module.", "model.")
COMPILED = "_orig_mod."
PARTS = container.PARTS
TOKENS = "embeddings.token_embedding.weight"
DEEPEST = 12


@dataclass
class Checkpoint:
    """What a file says about a base model.

    container    how it is packed;  formats   whose names it uses;  peeled   wrappers and prefixes that were taken off
    declared     {key: text} of what its header says of how it was made; nobody has checked it
    tensors      {parameter: tensor, in the file's dtype and the parameter's shape}
    shapes       [(parameter, shape in the file, shape in the model)] of what does not fit
    fewer        {layer: {kept, of, by}} of layers that have fewer channels in the file; their tensors are in the model's shape, with 0
    unfit        [{parameter, problem, n}] of tensors that cannot be weights: whole numbers, sparse, quantised ...
    not_finite   {parameter: {nan, inf, overflow}}: how many numbers of a tensor are not finite
    added        {text encoder: (row, channel)} of token rows after the model's own;  tokens   what the file calls them
    unexpected   names the model has no place for;  ignored   {why: how many}
    adaptors     how many were merged;  factors   with what;  multiplier   of all of them
    complete     parts of the model (unet, text_encoder ...) of which every tensor is in the file
    empty        whether it holds a mapping with nothing in it
    notes        sentences for the report
    """

    path: str
    container: str
    formats: list = field(default_factory=list)
    peeled: list = field(default_factory=list)
    declared: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)
    shapes: list = field(default_factory=list)
    fewer: dict = field(default_factory=dict)
    unfit: list = field(default_factory=list)
    not_finite: dict = field(default_factory=dict)
    added: dict = field(default_factory=dict)
    tokens: list = field(default_factory=list)
    unexpected: list = field(default_factory=list)
    ignored: dict = field(default_factory=dict)
    adaptors: int = 0
    factors: list = field(default_factory=list)
    multiplier: float = 1.0
    complete: list = field(default_factory=list)
    empty: bool = False
    notes: list = field(default_factory=list)

    def changed(self, model):
        """{parameter: tensor} of what differs from the model once the model is in the file's dtype.

        So rounding of a half precision file counts as no change, and those parameters keep the model's precision.
        """
        own = model.parameters()
        return {
            name: value for name, value in self.tensors.items() if not torch.equal(own[name].detach().cpu().to(value.dtype), value.cpu())
        }


def read(path, model, multiplier=1.0):
    """Read a checkpoint for a model; nothing is refused here that was understood.

    multiplier   of low-rank adaptors; -1 takes away what they add
    Raises       ModelError when the file cannot be read without running code from it, or is of a kind that is no set of weights
    """
    return _understood(path, container.contents(path), model, multiplier)


def check_header(path, model, allow_unexpected=False):
    """Refuse a safetensors file by its names, types and shapes, before a weight is read; other files and folders are let pass.

    Raises   ModelError as `check` does
    """
    packed = container.header(path)
    if packed is not None and not lora.is_adaptor(packed.content):
        _check_names(_understood(path, packed, model, header_only=True), model, allow_unexpected)


def _understood(path, packed, model, multiplier=1.0, header_only=False):
    found = Checkpoint(str(path), packed.kind, declared=packed.declared, multiplier=multiplier, notes=list(packed.notes))
    own, others = model.parameters(), {}
    tables = {name: fmt.names(model) for name, fmt in FORMATS.items()}
    table = {given: parameter for one in tables.values() for given, parameter in one.items()}
    flat = _without_prefix(_flat(_peeled(packed.content, found), table, found), table, found)
    merged, used = lora.merged(flat, own, found, packed.strengths, multiplier)
    found.tensors |= merged
    for name, value in flat.items():
        if name in used:
            continue
        parameter, why = table.get(name), _ignored(name)
        if parameter is None and why:
            found.ignored[why] = found.ignored.get(why, 0) + 1
        elif parameter is None:
            found.unexpected.append(name)
        else:
            _place(found, parameter, value.detach(), own[parameter], header_only, others)
    if others:
        _widen(found, others, model, own, packed.channels, header_only)
    found.formats += [name for name, one in tables.items() if any(given in one for given in flat)]
    _describe(found, own, header_only)
    return found


def check(found, model, allow_unexpected=False):
    """Refuse a checkpoint that is none of this model's, or cannot be a variant of it.

    Raises   ModelError when no name fits, a shape does not, a tensor cannot be weights or is not finite, the file holds more than the model
             has, or changes nothing
    """
    _check_names(found, model, allow_unexpected)
    if found.not_finite:
        name, counts = next(iter(found.not_finite.items()))
        what = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
        raise ModelError(
            f'{found.path} holds numbers that are not finite in {len(found.not_finite)} of its {len(found.tensors)} tensors, e.g. "{name}" '
            f"({what}). A model with them draws nothing that could be judged: the training went wrong, or the file was damaged."
        )
    if found.multiplier != 1 and not found.adaptors:
        raise ModelError(
            f"{found.path} holds no low-rank adaptor, so a multiplier of {found.multiplier:g} has nothing to act on. Leave multiplier out."
        )
    if found.changed(model):
        return
    if found.added:
        raise ModelError(
            f'{found.path} equals "{model.name}" in all {len(found.tensors)} tensors and only adds {_rows(found)}: a learned embedding, '
            "which is an attack and no erased model. Take it out with `workbench inspect --embeddings`, then `workbench import-prompts`."
        )
    ema = " Its EMA copy was not read; such files often hold the original model there." if "EMA copy" in found.ignored else ""
    none = " Its adaptors add nothing." if found.adaptors else ""
    raise ModelError(
        f'{found.path} equals "{model.name}" in all {len(found.tensors)} tensors: nothing was erased in it, or it is a copy of the '
        f"base (as converters that take the EMA weights make it).{ema}{none}"
    )


def _check_names(found, model, allow_unexpected):
    if found.empty:
        raise ModelError(
            f"{found.path} is empty: it holds a mapping without a tensor, so nothing was trained. ESD's alternative script saves "
            "such a file for its strict method."
        )
    if not found.tensors and not found.shapes and not found.unfit:
        some = ", ".join(found.unexpected[:3]) or "no tensors at all"
        aside = "; ".join(f"{n} of {why}" for why, n in found.ignored.items())
        aside = f" Left aside: {aside}." if aside else ""
        base = next((value for key, value in found.declared.items() if "base_model" in key or key == "family"), None)
        declared = f' It declares that it was made from "{base}".' if base else ""
        raise ModelError(
            f'{found.path} ({found.container}) has nothing for "{model.name}": of {len(found.unexpected)} names none fits, e.g. {some}. '
            f"Is it a checkpoint of another kind of model?{declared}{aside}"
        )
    if found.unfit:
        first = found.unfit[0]
        of = len(found.unfit) + len(found.tensors) + len(found.shapes)
        mask = first["problem"] in ("bool", "uint8") and len(found.unfit) == of
        hint = " A mask of SalUn says which weights were trained: look with `workbench mask show`." if mask else ""
        raise ModelError(
            f'{found.path}: {len(found.unfit)} of its {of} tensors cannot be weights: "{first["parameter"]}" is {first["problem"]}; '
            f"floating-point numbers are needed. Save the model in float32 or float16.{hint}"
        )
    if found.shapes:
        name, there, here = found.shapes[0]
        raise ModelError(
            f'{found.path} is for another base than "{model.name}": {len(found.shapes)} of its {len(found.shapes) + len(found.tensors)} '
            f'tensors have another shape, e.g. "{name}" {there} in the file, {here} in the model.{_base_hint(found.shapes)}'
        )
    if found.fewer and found.container in container.WHOLE and "unet" not in found.complete:
        missing = sorted(name for name in model.parameters() if name.startswith("unet.") and name not in found.tensors)
        raise ModelError(
            f'{found.path} has fewer channels than "{model.name}" and lacks {len(missing)} of its tensors altogether, e.g. "{missing[0]}": '
            "whole blocks were removed. Only channels can be missing here, not layers."
        )
    if found.unexpected and not allow_unexpected:
        raise ModelError(
            f'{found.path} has {len(found.unexpected)} tensors that "{model.name}" has no place for, e.g. "{found.unexpected[0]}"; '
            f"{len(found.tensors)} fit. Look with `workbench inspect`; set allow_unexpected = true to leave them out."
        )


def _peeled(content, found, parts=PARTS, outer=()):
    """The mapping inside wrappers; {'unet': {...}, 'text_encoder': {...}} becomes one with these prefixes.

    Raises   ModelError when a mapping holds itself, or is wrapped without end
    """
    if any(content is one for one in outer):
        raise ModelError(f"{found.path} holds itself: its wrapper leads back to itself, so there are no weights to find. Save them again.")
    if len(outer) > DEEPEST:
        raise ModelError(f"{found.path} is wrapped more than {DEEPEST} times, as no checkpoint is. Save its state_dict() alone.")
    outer = (*outer, content)
    if "saved_tokens" in content and not found.tokens:
        found.tokens = _token_names(content["saved_tokens"])
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None) or _only_mapping(content, parts)
    if wrapper is not None:
        found.peeled.append(str(wrapper))
        inner = _peeled(content[wrapper], found, parts, outer)
        outside = {key: value for key, value in content.items() if key != wrapper and key not in PARTS and torch.is_tensor(value)}
        return inner | outside
    split = [part for part in parts if isinstance(content.get(part), dict)]
    found.peeled += split
    result = {key: value for key, value in content.items() if key not in split}
    for part in split:
        result |= {f"{part}.{name}": value for name, value in _peeled(content[part], found, (), outer).items()}
    found.empty = not result
    return result


def _only_mapping(content, parts):
    """The one mapping that looks like weights in a content without tensors, whatever it is called; an EMA copy is not taken for them."""
    if any(torch.is_tensor(value) for value in content.values()):
        return None
    inner = [key for key, value in content.items() if isinstance(value, dict) and key not in parts]
    one = inner[0] if len(inner) == 1 and not any(isinstance(content.get(part), dict) for part in parts) else None
    if one is None or "ema" in str(one).lower() or "." in str(one):
        return None
    weights = content[one].items()
    return one if any(isinstance(value, dict) or (torch.is_tensor(value) and "." in str(name)) for name, value in weights) else None


def _token_names(saved):
    """Placeholder words in the order of their rows, as STEREO saves them: {"0": word, "1": word} or a list."""
    if isinstance(saved, dict):
        saved = [saved[key] for key in sorted(saved, key=lambda key: (len(str(key)), str(key)))]  # "10" comes after "9"
    return [word for word in saved if isinstance(word, str)] if isinstance(saved, (list, tuple)) else []


def _flat(content, table, found):
    """{name: tensor}; tensors that were saved by module and leaf get their joined names, as far as they are weights."""
    flat = {str(name): value for name, value in content.items() if torch.is_tensor(value)}
    nested = {
        str(module): inner
        for module, inner in content.items()
        if isinstance(inner, dict) and inner and all(map(torch.is_tensor, inner.values()))
    }
    joined = {module: {f"{module}.{leaf}": value for leaf, value in inner.items()} for module, inner in nested.items()}
    alone = len(nested) == len(content)
    taken = [module for module, names in joined.items() if alone or any(name in table for name in names)]
    if taken:
        found.peeled.append("module and leaf")
        flat |= {name: value for module in taken for name, value in joined[module].items()}
    others = [name for name, value in content.items() if not torch.is_tensor(value) and str(name) not in taken]
    if others:
        found.ignored[f"no tensor ({', '.join(map(str, others[:4]))})"] = len(others)
    return flat


def _without_prefix(flat, table, found):
    if any(COMPILED in name for name in flat):
        found.peeled.append(COMPILED)
        flat = {name.replace(COMPILED, ""): value for name, value in flat.items()}
    while flat and not any(name in table for name in flat):
        prefix = next((one for one in PREFIXES if all(name.startswith(one) for name in flat)), None)
        if prefix is None or any(name.startswith("model.diffusion_model.") for name in flat):
            break
        found.peeled.append(prefix)
        flat = {name.removeprefix(prefix): value for name, value in flat.items()}
    inner = tuple(f"{part}.module." for part in PARTS)
    if any(name.startswith(inner) for name in flat):
        found.peeled.append("module.")
        flat = {name.replace(".module.", ".", 1) if name.startswith(inner) else name: value for name, value in flat.items()}
    return flat


def _ignored(name):
    for fmt in FORMATS.values():
        for start, why in fmt.IGNORED.items():
            if name.startswith(start):
                return why
    return None


def _place(found, parameter, value, own, header_only, others):
    """Put a tensor where it belongs; one of another shape into `others` as well."""
    problem = tensors.unfit(value, header_only)
    if problem:
        found.unfit.append({"parameter": parameter, "problem": problem, "n": value.numel()})
        return
    if value.shape != own.shape and value.squeeze().shape == own.squeeze().shape and value.numel() == own.numel():
        value = value.reshape(own.shape)  # a 1 x 1 convolution is a linear layer
    if parameter.endswith(TOKENS) and value.dim() == 2 and value.shape[1] == own.shape[1] and len(value) > len(own):
        found.added[parameter.partition(".")[0]] = value[len(own) :]
        value = value[: len(own)]
    if value.shape != own.shape:
        found.shapes.append((parameter, tuple(value.shape), tuple(own.shape)))
        others[parameter] = value
    elif parameter in found.tensors and not header_only and not _same(found.tensors[parameter], value):
        raise ModelError(f'{found.path} says "{parameter}" twice, with different values. It cannot be told which one is meant.')
    else:
        found.tensors[parameter] = value


def _widen(found, others, model, own, said, header_only):
    """Layers with fewer channels in the file: their tensors in the model's shape, and no longer among those of another shape.

    others   {parameter: tensor of another shape};  said   {layer: channels that are kept} as the file says it
    """
    groups, given = channels.of(model.unet), found.tensors | others
    shapes = {name: tuple(value.shape) for name, value in given.items()}
    touched = {layer: group for layer, group in groups.items() if any(name in others for name in group.parameters)}
    counts = {layer: channels.fewer(group, shapes, own) for layer, group in touched.items()}
    counts = {layer: n for layer, n in counts.items() if n is not None}
    keep = channels.checked(said, groups, counts, found.path)
    by = dict.fromkeys(counts, "weights") | dict.fromkeys(keep, "file")
    names = [name for layer in counts for name in groups[layer].parameters]
    if header_only:
        found.tensors |= {name: torch.empty(own[name].shape, dtype=given[name].dtype, device="meta") for name in names}
    else:
        for layer in counts.keys() - keep.keys():
            keep[layer] = channels.matched(groups[layer], given, own, found.path, model.name)
        found.tensors |= channels.full(groups, {name: given[name].cpu() for name in names}, keep)
    found.shapes = [one for one in found.shapes if one[0] not in names]
    found.fewer = {layer: {"kept": n, "of": groups[layer].n, "by": by[layer]} for layer, n in counts.items()}
    if counts:
        missing = channels.words(groups, {layer: groups[layer].n - n for layer, n in counts.items()})
        told = " and ".join(dict.fromkeys("the file says which" if by[layer] == "file" else "told by their weights" for layer in counts))
        found.notes.append(f"It has fewer channels than the model: {missing} are missing ({told}). They are read as channels of weight 0.")


def _same(one, other):
    return one.dtype == other.dtype and torch.equal(one, other)


def _describe(found, own, header_only):
    for part in PARTS:
        names = {name for name in own if name.startswith(part + ".")}
        if names and names <= set(found.tensors):
            found.complete.append(part)
    dtypes = {value.dtype for value in found.tensors.values()}
    wanted = {parameter.dtype for parameter in own.values()}
    if dtypes - wanted:
        listed = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        found.notes.append(f"The file is in {listed}; compared in that, cast to {str(next(iter(wanted))).removeprefix('torch.')}.")
    if "EMA copy" in found.ignored:
        found.notes.append(f"{found.ignored['EMA copy']} tensors of an EMA copy were left aside: after erasing it often is the original.")
    if not header_only:
        counted = {name: tensors.not_finite(value, own[name].dtype) for name, value in found.tensors.items()}
        found.not_finite = {name: counts for name, counts in counted.items() if counts}
    if found.added:
        found.notes.append(f"It adds {_rows(found)}: a learned embedding. The model's own rows are compared, the added ones are left out.")


def _rows(found):
    """What the added token rows are, in words."""
    n = max(map(len, found.added.values()))
    called = f" ({', '.join(found.tokens[:4])})" if found.tokens else ""
    return f"{n} token {'row' if n == 1 else 'rows'}{called} to the {' and the '.join(part.replace('_', ' ') for part in found.added)}"


def learned_embeddings(found):
    """{word: (1, channel)} of the added token rows, as `workbench import-prompts` reads them; of two text encoders side by side.

    Raises   ModelError when there are none, or the text encoders have different numbers of them
    """
    if not found.added:
        raise ModelError(f"{found.path} adds no token rows, so there is no learned embedding to write.")
    if len({len(rows) for rows in found.added.values()}) > 1:
        raise ModelError(f"{found.path} adds different numbers of token rows to the two text encoders: they are no pairs.")
    rows = torch.cat([found.added[part].float() for part in sorted(found.added)], dim=1)
    names = found.tokens if len(found.tokens) == len(rows) == len(set(found.tokens)) else [f"added-{n + 1}" for n in range(len(rows))]
    return {name: row[None].clone() for name, row in zip(names, rows, strict=True)}


def _base_hint(shapes):
    for name, there, here in shapes:
        if name.endswith("attn2.to_k.weight") and there[-1] != here[-1]:
            kinds = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
            kind = f", as in {kinds[there[-1]]}" if there[-1] in kinds else ""
            return f" Its text states are {there[-1]} wide{kind}; the model's {here[-1]}."
    return ""
