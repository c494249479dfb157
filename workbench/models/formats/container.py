"""How checkpoints are packed: safetensors, torch zip, diffusers and transformers folders; read without running code from them.

contents   path -> ({name: tensor or {name: tensor}}, what it is)
digest     path -> sha256, of a file or of all weights in a folder
"""

import json
import pickle
import zipfile
from pathlib import Path

from workbench.errors import ModelError
from workbench.storage import digest as plain_digest
from workbench.storage import file_digest

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
COPIES = ("fp16", "non_ema")


def contents(path):
    """What a checkpoint holds, told by its first bytes and not by its name.

    Raises   ModelError when there is nothing, it is damaged, or reading it would run code
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise ModelError(f"There is no checkpoint {path}.")
    with path.open("rb") as file:
        start = file.read(9)
    if len(start) == 9 and start[8:] == b"{":
        return _safetensors(path), "safetensors"
    if start.startswith(b"PK"):
        return _zip(path), "torch zip"
    return _pickled(path), "torch file"


def digest(path):
    """sha256 of a file, or of the names and bytes of the weights in a folder."""
    path = Path(path)
    if path.is_file():
        return file_digest(path)
    files = sorted(p for p in path.rglob("*") if p.suffix in (*WEIGHTS, ".json"))
    return plain_digest([[str(p.relative_to(path)), file_digest(p)] for p in files])


def _safetensors(path):
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error


def _zip(path):
    """torch.save stores tensors uncompressed: a file that unpacks to more than it is, is none of torch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    if unpacked > path.stat().st_size:
        raise ModelError(f"{path} unpacks to {unpacked} bytes, more than the file has: torch writes no such files, and it is not opened.")
    return _pickled(path)


def _pickled(path):
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        UnicodeDecodeError,
    ) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path} is no checkpoint that can be opened safely: it is damaged, or holds more than tensors, which could run code "
            f"({first}). Where it was made, save its state_dict() alone, best as safetensors."
        ) from error
    if torch.is_tensor(content) or not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not weights by name.")
    return content


def _folder(path):
    if (path / "eraser_config.json").is_file():
        raise ModelError(
            f"{path} is an adaptor that adds modules to the UNet (Receler). It is no change of weights and cannot be a variant here."
        )
    if (path / "model_index.json").is_file():
        names = [part for part in ("unet", "text_encoder", "text_encoder_2") if (path / part).is_dir()]
        return {part: _part(path / part) for part in names}, "diffusers pipeline folder"
    if (path / "config.json").is_file():
        config = json.loads((path / "config.json").read_text())
        kind = config.get("_class_name") or next(iter(config.get("architectures") or [""]))
        if kind == "UNet2DConditionModel":
            return {"unet": _part(path)}, "UNet folder"
        if kind in ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"):
            return {"text_encoder": _part(path)}, "text encoder folder"
        raise ModelError(f'{path} holds a "{kind}"; a UNet2DConditionModel or a CLIPTextModel is needed.')
    raise ModelError(f"{path} is no checkpoint folder: it has no model_index.json and no config.json.")


def _part(folder):
    """{name: tensor} of one part; of several copies of its weights the plain one, safetensors first."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in WEIGHTS]
    files = [p for p in files if not any(copy in p.name for copy in COPIES)] or files
    files = [p for p in files if p.suffix == ".safetensors"] or files
    if not files:
        raise ModelError(f"{folder} holds no weights ({', '.join(WEIGHTS)}).")
    found = {}
    for file in files:
        found |= contents(file)[0]
    return found
