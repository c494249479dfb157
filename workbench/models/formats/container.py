"""How checkpoints are packed: safetensors, torch zip, diffusers, transformers and PEFT folders; read without running code from them.

contents   path -> Packed: names, tensors, what the file declares of itself, how strong its adaptors are
header     path of a safetensors file -> the same from its header, with tensors that have a shape and no values
shapes     folder of safetensors -> {name: shape}, from the headers
kept       folder of weights -> which channels they keep, as it says
digest     path -> sha256, of a file or of all weights in a folder
stated_strength   path -> sha256 of the strength that the header of an adaptor states
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import ModelError
from workbench.foreign import read_mapping, refuse_no_data, torch_content, unreadable
from workbench.models import channels
from workbench.models.formats import strength
from workbench.storage import digest as plain_digest
from workbench.storage import file_digest

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
COPIES = ("fp16", "non_ema")
PARTS = ("unet", "text_encoder", "text_encoder_2")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
LORA_STEMS = ("pytorch_lora_weights", "adapter_model")
SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<of>\d{5})$")
MASK = re.compile(r"^timestep_\d+_layer_\d+\.pkl$")
PEFT_CONFIG = "adapter_config.json"
# header entries that declare nothing of how a file was made
TECHNICAL = ("format", "digest", "shapes", "provenance", "workbench", channels.ENTRY)
LONGEST, MOST_DECLARED = 120, 16
PIPELINE, UNET = "diffusers pipeline folder", "UNet folder"
WHOLE = (PIPELINE, UNET)  # kinds that should hold every tensor of a part


@dataclass
class Packed:
    """What a file or folder holds.

    content    {name: tensor or {name: tensor}}, nested as it was saved;  kind   what it is, in words
    declared   {key: text} of what the file says of itself; nobody has checked it
    strengths  {part of the model, "" for any: strength.Strength} of its adaptors
    channels   {layer of the UNet: channels that are kept}, of a student that has fewer
    notes      sentences for the report
    """

    content: dict
    kind: str
    declared: dict = field(default_factory=dict)
    strengths: dict = field(default_factory=dict)
    channels: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)


def contents(path):
    """What a checkpoint holds, told by its first bytes and not by its name.

    Raises   ModelError when there is nothing, it is damaged, or reading it would run code
    """
    path = Path(path)
    if _is(path, Path.is_dir):
        return _folder(path)
    if not _is(path, Path.is_file):
        raise ModelError(f"There is no checkpoint {path}.")
    _refuse_a_piece(path)
    return _file(path)


def header(path):
    """What the header of a safetensors file says; None for any other file or folder.

    returns   Packed whose tensors lie on the device "meta": shape and type, no values
    Raises    ModelError when the header is damaged
    """
    import torch
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not _is(path, Path.is_file) or not _is_safetensors(path):
        return None
    found = {}
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            for name in file.keys():  # noqa: SIM118, the file is no mapping
                part = file.get_slice(name)
                found[name] = torch.empty(part.get_shape(), dtype=_dtype(part.get_dtype()), device="meta")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    return Packed(found, "safetensors", _declared(metadata), strength.from_header(metadata, path), _stated(metadata, path))


def shapes(folder):
    """{name: shape} of the tensors in a folder of safetensors, from their headers; of other files nothing."""
    heads = [header(file) for file in _candidates(Path(folder)) if file.suffix == ".safetensors"]
    return {name: value.shape for one in heads if one is not None for name, value in one.content.items()}


def kept(folder):
    """{layer: channels that are kept} of the UNet in a folder, by its channels.json or the header of its weights; empty where neither says.

    Raises   ModelError when what it says is no mapping
    """
    beside = Path(folder) / f"{channels.ENTRY}.json"
    if beside.is_file():
        return read_mapping(beside)
    heads = [header(file) for file in _candidates(Path(folder)) if file.suffix == ".safetensors"]
    return {layer: index for one in heads if one is not None for layer, index in one.channels.items()}


def _stated(metadata, path):
    beside = path.parent / f"{channels.ENTRY}.json"
    if channels.ENTRY in metadata:
        return channels.read(metadata[channels.ENTRY], path)
    return read_mapping(beside) if beside.is_file() else {}


def _dtype(word):
    """The torch type of a type's name in a header; bool for what torch has no plain type for."""
    import torch

    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
    names |= {"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "C64": "complex64"}
    return getattr(torch, names.get(word, "bool"))


def digest(path):
    """sha256 of a file, or of the names and bytes of the weights in a folder.

    Raises   ModelError when one of them cannot be read
    """
    path = Path(path)
    try:
        if path.is_file():
            return file_digest(path)
        files = sorted(p for p in path.rglob("*") if p.suffix in (*WEIGHTS, ".json", ".pkl") and p.is_file())
        return plain_digest([[str(p.relative_to(path)), file_digest(p)] for p in files])
    except OSError as error:
        where = error.filename or path
        raise ModelError(
            f"{where} cannot be read: {error.strerror or error}. See who may read it (ls -l), or get your own copy."
        ) from error


def stated_strength(path):
    """sha256 of the strength that the header of a file with adaptors states; None where it states none, or the adaptors themselves do.

    Headers were not read at first. What is read from them is a part of a variant's key, so that a wrong strength is not kept.

    Raises   ModelError when the file cannot be read
    """
    found = header(path)
    if found is None or not found.strengths or any(name.endswith(".alpha") for name in found.content):
        return None
    adaptors = any("lora" in name for name in found.content)
    return plain_digest({part: vars(one) for part, one in found.strengths.items()}) if adaptors else None


def _is(path, test):
    try:
        return test(path)
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error


def _file(path):
    refuse_no_data(path)
    if _is_safetensors(path):
        metadata, tensors = safetensors(path)
        return Packed(tensors, "safetensors", _declared(metadata), strength.from_header(metadata, path), _stated(metadata, path))
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    content = torch_content(path)
    if not isinstance(content, dict):
        vector = getattr(content, "ndim", 3) in (1, 2)
        hint = " A learned vector is an attack: bring it with `workbench import-prompts`." if vector else ""
        raise ModelError(f"{path} holds a {type(content).__name__}, not weights by name.{hint}")
    return Packed(content, "torch zip" if zipped else "torch file", channels=_stated({}, path))


def _is_safetensors(path):
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error
    return len(start) == 9 and start[8:] == b"{"


def safetensors(path):
    """(metadata, {name: tensor}) of a safetensors file.

    Raises   ModelError when it is damaged
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        return metadata, load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path} is damaged: {str(error)[:200]}.") from error


def _declared(metadata):
    """{key: text} of what a header says of how the file was made; long texts are cut, entries of kohya's trainer left out."""
    said = {
        key: value if len(value) <= LONGEST else value[:LONGEST] + " ..."
        for key, value in sorted(metadata.items())
        if key not in (*TECHNICAL, strength.HEADER) and not key.startswith(("ss_", "sshs_")) and value.strip()
    }
    return dict(list(said.items())[:MOST_DECLARED])


def _refuse_a_piece(path):
    """A shard or an index is a part of a checkpoint: read alone it would be another model."""
    match = SHARD.match(path.stem)
    if match:
        raise ModelError(
            f"{path} is shard {int(match['number'])} of {int(match['of'])}: a part of a checkpoint. Give the folder that holds them all."
        )
    if path.name.endswith(".index.json"):
        raise ModelError(f"{path} is the index of a sharded checkpoint. Give the folder that holds its shards.")


def _folder(path):
    try:
        names = {p.name for p in path.iterdir()}
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}. See who may read it (ls -ld), or get your own copy."
        ) from error
    if "eraser_config.json" in names:
        raise ModelError(
            f"{path} adds modules to the UNet (Receler) and changes no weights. As a variant it is read whole: in a study, "
            'method = "from_checkpoint".'
        )
    if any(MASK.match(name) for name in names):
        raise ModelError(
            f"{path} holds ConceptPrune's masks, which say what is cut, no weights. Look with `workbench mask show {path}`; "
            'in a study: method = "mask_from_file".'
        )
    if "model_index.json" in names:
        return _pipeline(path)
    if "config.json" in names:
        return _one_part(path)
    adapters = {part: path / part for part in PARTS if (path / part / PEFT_CONFIG).is_file()}
    if PEFT_CONFIG in names:
        adapters[""] = path
    if adapters:
        return _peft(path, adapters)
    return _loose(path)


def _pipeline(path):
    read_mapping(path / "model_index.json")
    parts = [part for part in PARTS if (path / part).is_dir()]
    if not parts:
        raise ModelError(f"{path} is a pipeline without the folders unet/ or text_encoder/. Only these can be a variant here.")
    content, notes = {}, []
    for part in parts:
        content[part], said = _part(path / part)
        notes += said
    return Packed(content, PIPELINE, channels=kept(path / "unet") if "unet" in parts else {}, notes=notes)


def _one_part(path):
    config = read_mapping(path / "config.json")
    listed = config.get("architectures")
    kinds = [config.get("_class_name"), *(listed if isinstance(listed, list) else [listed])]
    kind = next((one for one in kinds if isinstance(one, str)), None)
    parts = {"UNet2DConditionModel": "unet"} | dict.fromkeys(("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"), "text_encoder")
    if kind not in parts:
        what = f'a "{kind[:LONGEST]}"' if kind else "a model whose config.json does not name its class"
        raise ModelError(f"{path} holds {what}; a UNet2DConditionModel or a CLIPTextModel is needed.")
    content, notes = _part(path)
    whole = parts[kind] == "unet"
    return Packed({parts[kind]: content}, UNET if whole else "text encoder folder", channels=kept(path) if whole else {}, notes=notes)


def _peft(path, adapters):
    """An adaptor folder of PEFT, or several under the names of the parts they are for."""
    content, strengths, declared, notes = {}, {}, {}, []
    for part, folder in sorted(adapters.items()):
        config = read_mapping(folder / PEFT_CONFIG)
        strengths[part] = strength.from_config(config, folder / PEFT_CONFIG)
        base = config.get("base_model_name_or_path")
        if isinstance(base, str) and base:
            declared["base_model_name_or_path"] = base[:LONGEST]
        tensors, said = _part(folder, LORA_STEMS)
        start = f"{part}." if part else ""
        content |= {start + name.removeprefix("base_model.model."): value for name, value in tensors.items()}
        notes += said
    return Packed(content, "PEFT folder", declared, strengths, notes)


def _loose(path):
    """A folder without a configuration: the one file of weights in it."""
    files = _candidates(path)
    if not files:
        inner = sorted(p.name for p in path.iterdir() if p.is_dir() and _candidates(p))[:4]
        hint = f" Its folders {', '.join(inner)} hold weights: give one of them." if inner else ""
        raise ModelError(f"{path} is no checkpoint folder: it has no model_index.json, no config.json and no {PEFT_CONFIG}.{hint}")
    known = [file for file in files if file.stem in LORA_STEMS]
    if len(known or files) > 1 and not all(SHARD.match(file.stem) for file in files):
        listed = ", ".join(file.name for file in (known or files)[:4])
        raise ModelError(f"{path} holds {len(known or files)} files of weights ({listed}), and none says which is meant. Give one of them.")
    if not known and any(SHARD.match(file.stem) for file in files):
        content, notes = _part(path)
        return Packed(content, "sharded folder", channels=kept(path), notes=notes)
    file = (known or files)[0]
    packed = _file(file)
    packed.kind = f"{packed.kind} {file.name} in a folder"
    return packed


def _candidates(folder):
    """Files of weights; of several copies the plain ones, of two containers safetensors."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in WEIGHTS and p.is_file()]
    files = [p for p in files if not any(copy in p.name for copy in COPIES)] or files
    return [p for p in files if p.suffix == ".safetensors"] or files


def _part(folder, stems=STEMS):
    """({name: tensor}, notes) of one part: its one file of weights, or its shards by their index.

    Raises   ModelError when a shard is missing, or it cannot be told which file is meant
    """
    files = _candidates(folder)
    if not files:
        raise ModelError(f"{folder} holds no weights ({', '.join(WEIGHTS)}).")
    shards = [file for file in files if SHARD.match(file.stem)]
    plain = [file for file in files if file not in shards]
    plain = [file for file in plain if file.stem.split(".")[0] in stems] or plain
    indexes = [p for p in sorted(folder.iterdir()) if ".index." in p.name and p.suffix == ".json" and files[0].suffix in p.name]
    indexes = [p for p in indexes if not any(copy in p.name for copy in COPIES)] or indexes
    if plain and (shards or indexes):
        raise ModelError(
            f"{folder} holds a whole file of weights ({plain[0].name}) beside shards of one ({(shards or indexes)[0].name}), and it cannot "
            "be told which is meant. Move one of them away."
        )
    if shards:
        return _sharded(folder, shards, indexes)
    if len(plain) > 1:
        listed = ", ".join(file.name for file in plain[:4])
        raise ModelError(f"{folder} holds {len(plain)} files of weights ({listed}), and it cannot be told which is meant. Keep one.")
    others = [file.name for file in files if file not in plain]
    return _file(plain[0]).content, [f"Beside {plain[0].name} lie {', '.join(others[:4])}, which were not read."] if others else []


def _sharded(folder, shards, indexes):
    """({name: tensor}, notes) of all shards of one checkpoint, each tensor from the shard its index names."""
    families = {(match["stem"], int(match["of"])) for match in (SHARD.match(file.stem) for file in shards)}
    if len(families) > 1 or len(indexes) > 1:
        listed = ", ".join(p.name for p in (indexes if len(indexes) > 1 else shards)[:4])
        raise ModelError(f"{folder} holds shards of more than one checkpoint ({listed} ...). Keep those of the one that is meant.")
    stem, of = families.pop()
    numbers = {int(SHARD.match(file.stem)["number"]) for file in shards}
    missing = [number for number in range(1, of + 1) if number not in numbers]
    if missing:
        listed = f"shard {missing[0]}" if len(missing) == 1 else f"shards {', '.join(map(str, missing[:6]))}"
        raise ModelError(
            f"{folder}: {listed} of {of} {'is' if len(missing) == 1 else 'are'} missing "
            f"({stem}-{missing[0]:05d}-of-{of:05d}{shards[0].suffix}). Get the folder whole."
        )
    read = {file.name: _file(file).content for file in shards}
    if not indexes:
        doubled = len({name for one in read.values() for name in one}) < sum(map(len, read.values()))
        if doubled:
            raise ModelError(f"{folder}: its shards hold the same names, and no index says which counts. Get the folder whole.")
        return {name: value for one in read.values() for name, value in one.items()}, [f"{of} shards without an index were read."]
    return _indexed(folder, read, indexes[0]), [f"{of} shards were read by their index."]


def _indexed(folder, read, index):
    """{name: tensor} of shards {file name: its tensors}, as their index says."""
    places = read_mapping(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise ModelError(f"{index} is damaged: it has no weight_map of names to files. Get the folder whole.")
    unknown = sorted({file for file in places.values() if file not in read})
    if unknown:
        raise ModelError(f"{index} names the shard {json.dumps(unknown[0][:LONGEST])}, which does not belong to it. Get the folder whole.")
    lost = [name for name, file in places.items() if name not in read[file]]
    extra = [name for file, one in read.items() for name in one if places.get(name) != file]
    if lost or extra:
        raise ModelError(
            f"{folder}: its index does not fit its shards: {len(lost)} names are not where it says, {len(extra)} are not in it "
            f"(e.g. {(lost or extra)[0]}). The shards are of another save. Get the folder whole."
        )
    return {name: read[file][name] for name, file in places.items()}
