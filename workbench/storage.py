"""Atomic files, digests, tables and arrays on disk; no pickle anywhere.

atomic           write beside, then rename
digest           sha256 of any plain structure, of bytes or of a file
read_json        …, write_json, read_table, write_table (Parquet), read_arrays, write_arrays (safetensors)
read_numpy       …, write_numpy: safetensors too, without torch
DamagedFile      what the readers raise for a file that is missing or cannot be read
"""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError

if TYPE_CHECKING:
    import numpy
    import pandas
    import torch


class DamagedFile(RunError):
    """A file that is missing, cut short or of another format than its name says; `path` and `why` say which and how."""

    def __init__(self, path: str | Path, why: object) -> None:
        super().__init__(f"{path} is damaged ({why}). Replace it by a good copy, or create it again.")
        self.path, self.why = Path(path), str(why)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` when the block ends well, else remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def plain_json(value: Any) -> Any:
    """The same value in JSON's own types: NumPy scalars and arrays unpacked, what is not finite -> None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def digest(value: Any) -> str:
    """sha256 hex of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """sha256 hex of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_digest(tensors: Mapping[str, "torch.Tensor"]) -> str:
    """sha256 hex over names, dtypes, shapes and bytes of a {name: tensor}, in name order."""
    import torch

    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; DamagedFile when it is no JSON or cannot be read, FileNotFoundError when it is missing."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"not JSON: {error}") from error
    except OSError as error:
        raise DamagedFile(path, error.strerror or str(error)) from error


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, NaN refused."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: str | Path, table: "pandas.DataFrame") -> None:
    """Write a data frame as Parquet, atomically; every page carries a checksum."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False, write_page_checksum=True)


def read_table(path: str | Path) -> "pandas.DataFrame":
    """Read a Parquet table; DamagedFile when it is missing or damaged, as far as its checksums tell."""
    import pandas
    import pyarrow

    try:
        return pandas.read_parquet(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise DamagedFile(path, "the file is missing") from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(path, error) from error


def write_arrays(path: str | Path, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, object] | None = None) -> None:
    """Write {name: torch tensor} as safetensors, atomically; equal content gives equal bytes.

    Raises   OSError when the disk is full, as any other writer does
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(contiguous, temporary, {k: str(v) for k, v in (metadata or {}).items()})
        except SafetensorError as error:
            raise OSError(str(error)) from error
        if len(metadata or {}) > 1:
            _order_header(temporary)


def write_numpy(path: str | Path, arrays: "Mapping[str, numpy.ndarray]", metadata: Mapping[str, str]) -> None:
    """Write {name: NumPy array} as safetensors, atomically; the same bytes as `write_arrays` of the same content, without torch."""
    import numpy
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomic(path) as temporary:
        try:
            save_file({name: numpy.ascontiguousarray(array) for name, array in arrays.items()}, temporary, dict(metadata))
        except SafetensorError as error:
            raise OSError(str(error)) from error
        if len(metadata) > 1:
            _order_header(temporary)


def read_numpy(path: str | Path) -> "tuple[dict[str, numpy.ndarray], dict[str, str]]":
    """({name: NumPy array}, metadata of the header) of a safetensors file, without torch; DamagedFile as `read_arrays`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 - no dict
    except FileNotFoundError:
        raise DamagedFile(path, "the file is missing") from None
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise DamagedFile(path, error) from error


def _order_header(path: Path) -> None:
    """Put the metadata in the header of a safetensors file in the order of its keys; the library writes it in random order.

    The header is 8 bytes (its length, little endian) and JSON, padded with spaces. The same entries in another order take as many bytes.
    """
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
            if len(text) > length:
                raise OSError(f"the header of {path} takes {len(text)} bytes instead of {length}")
            file.seek(8)
            file.write(text.ljust(length))


def read_arrays(path: str | Path) -> dict[str, "torch.Tensor"]:
    """Read a safetensors file as {name: torch tensor}; DamagedFile when it is missing, damaged or cut short."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise DamagedFile(path, "the file is missing") from None
    except (SafetensorError, OSError) as error:
        raise DamagedFile(path, error) from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """The string metadata in the header of a safetensors file; DamagedFile when it is damaged, FileNotFoundError when it is missing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise DamagedFile(path, error) from error
