"""Atomic files, digests, tables and arrays on disk; no pickle anywhere.

atomic           write beside, then rename
digest           sha256 of any plain structure, of bytes or of a file
read_json        …, write_json, read_table, write_table (Parquet), read_arrays, write_arrays (safetensors)
"""

import hashlib
import json
import os
import uuid
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import RunError


@contextmanager
def atomic(path):
    """Yield a temporary path in the same folder; rename it to `path` when the block ends well, else remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def digest(value):
    """sha256 hex of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path):
    """sha256 hex of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_digest(tensors):
    """sha256 hex over names, dtypes, shapes and bytes of a {name: tensor}, in name order."""
    import torch

    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(memoryview(tensor.flatten().view(torch.uint8).numpy()))
    return total.hexdigest()


def read_json(path):
    """The content of a JSON file; RunError when it is damaged."""
    try:
        return json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged (not JSON: {error}). Remove it and run again.") from error


def write_json(path, value):
    """Write JSON atomically, keys sorted, NaN refused."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


def write_text(path, text):
    """Write text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path, table):
    """Write a data frame as Parquet, atomically."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_table(path):
    """Read a Parquet table; RunError when it is damaged."""
    import pandas
    import pyarrow

    try:
        return pandas.read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RunError(f"{path} is damaged ({error}). Remove it and run again.") from error


def write_arrays(path, tensors, metadata=None):
    """Write {name: torch tensor} as safetensors, atomically; OSError when the disk is full, as from any other writer."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(contiguous, temporary, {k: str(v) for k, v in (metadata or {}).items()})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_arrays(path):
    """Read a safetensors file as {name: torch tensor}; RunError when it is damaged or cut short."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged ({error}). Remove it and run again.") from error


def read_metadata(path):
    """The string metadata in the header of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})
