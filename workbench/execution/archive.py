"""A run as one file to hand over, and back: a zip with a manifest of digests.

pack     write the archive of a run
unpack   a run folder from an archive, after every name, size and digest in it has been checked

An archive of somebody else is not trusted: no name may lead out of the folder, nothing but ordinary files is written, no file may be larger
than the archive says or than the limits allow, every digest must fit, and nothing that is there is replaced.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.errors import RunError
from workbench.execution.open_run import open_run
from workbench.execution.run_folder import OURS, START, START_LOG, START_SECONDS, Store
from workbench.storage import atomic, file_digest

MANIFEST = "archive.json"  # the first entry
FORMAT = 1
MOST_FILES = 200_000
MOST_FILE = 4 * 2**30  # bytes of one file
MOST_TOTAL = 64 * 2**30
MOST_MANIFEST = 64 * 2**20
LEFT_OUT = {".lock", START, START_LOG, "set-aside"}  # what says which process runs here, and what was damaged
WHEN = (1980, 1, 1, 0, 0, 0)  # of every entry, so that one run gives the same bytes
CHUNK = 2**20
PART = re.compile(r"[^\x00-\x1f\x7f/\\:]+")  # of a path in an archive


def pack(name: str | Path, out: str | Path) -> tuple[Path, int]:
    """Write a run as one archive; returns (path, number of files).

    name     a run folder, a name under runs/, or `example`
    Raises   RunError when the run is running or its manifest damaged, the file is there already, or it cannot be written
    """
    store, out = open_run(name).store, Path(out)
    store.manifest()
    if store.is_running() or store.is_starting():
        raise RunError(f"{store.folder} is running, so its files still change. Stop it first: workbench stop {store.name}")
    if out.exists():
        raise RunError(f"{out} exists already, and nothing is replaced. Choose another --out.")
    files = sorted(_files(store.folder))
    try:
        about = [
            {"path": path, "bytes": (store.folder / path).stat().st_size, "sha256": file_digest(store.folder / path)} for path in files
        ]
        with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            said = {"format": FORMAT, "run": store.name, "files": about}
            archive.writestr(zipfile.ZipInfo(MANIFEST, WHEN), json.dumps(said, indent=1), zipfile.ZIP_DEFLATED)
            for path in files:
                entry = zipfile.ZipInfo(path, WHEN)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                with (store.folder / path).open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, CHUNK)
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror or error}.") from error
    return out, len(files)


def unpack(path: str | Path, runs: str | Path, name: str | None = None) -> Path:
    """Check an archive and make a run folder of it; returns the folder. It appears whole or not at all.

    runs     the folder that holds the runs;  name   of the run there; default: as the archive says
    Raises   RunError for anything in the archive that is not as `pack` writes it, or when a run of that name is there
    """
    path, runs = Path(path), Path(runs)
    try:
        with zipfile.ZipFile(path) as archive:
            said = _manifest(archive, path)
            name = _checked_name(said["run"] if name is None else name, path)
            folder = runs / name
            if os.path.lexists(folder):
                raise RunError(f"{folder} exists already, and nothing is replaced. Give the run another name with --name.")
            entries = _entries(archive, said["files"], path)
            runs.mkdir(parents=True, exist_ok=True)
            temporary = runs / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
            temporary.mkdir()
            try:
                for one, entry in entries:
                    _write(archive, entry, one, temporary / one["path"], path)
                _check_run(temporary, path)
                long_ago = time.time() - 2 * START_SECONDS  # a study that is new is that of a run that starts
                for file in ("study.json", "status.json"):
                    with suppress(FileNotFoundError):
                        os.utime(temporary / file, (long_ago, long_ago))
                os.rename(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except FileNotFoundError:
        raise RunError(f"There is no file {path}.") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise RunError(f"{path} is no archive of a run, or is damaged: {error}.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be imported into {runs}: {error.strerror or error}.") from error
    return folder


def _files(folder: Path) -> Iterator[str]:
    """Paths of the files of a run, with /; links and what another program put there are left out."""
    for top in folder.iterdir():
        if top.name not in OURS - LEFT_OUT or top.is_symlink():
            continue
        for path in [top] if top.is_file() else top.rglob("*"):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path.relative_to(folder).as_posix()


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """The manifest of an archive, checked."""
    try:
        entry = archive.getinfo(MANIFEST)
    except KeyError:
        raise RunError(
            f"{path} is no archive of a run: it has no {MANIFEST}. Make one with: workbench export-run RUN --out FILE.zip"
        ) from None
    try:
        said = json.loads(_read(archive, entry, MOST_MANIFEST, path))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {MANIFEST} is not JSON ({error}).") from None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise RunError(f"{path} was written by another version of the workbench; this one reads format {FORMAT}.")
    files = said.get("files")
    fits = isinstance(said.get("run"), str) and isinstance(files, list) and all(map(_is_file, files))
    if not fits or not isinstance(files, list):
        raise RunError(f"{path} is damaged: {MANIFEST} does not list files with path, bytes and sha256.")
    if len(files) > MOST_FILES or sum(one["bytes"] for one in files) > MOST_TOTAL:
        raise RunError(f"{path} holds more than {MOST_FILES:,} files or {MOST_TOTAL / 2**30:.0f} GiB. No run needs that.")
    return said


def _is_file(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("path"), str)
        and type(one.get("bytes")) is int
        and isinstance(one.get("sha256"), str)
        and re.fullmatch(r"[0-9a-f]{64}", one["sha256"]) is not None
    )


def _checked_name(name: str, path: Path) -> str:
    """A name that can only be that of a folder in the folder of runs."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise RunError(f'{path}: no run can be called "{name[:100]}". Give it another name with --name.')
    return name


def _entries(archive: zipfile.ZipFile, files: list[dict[str, Any]], path: Path) -> list[tuple[dict[str, Any], zipfile.ZipInfo]]:
    """[(file of the manifest, entry)]: the same files, each once, ordinary, with names that stay in the folder and sizes within limits."""
    found = {}
    for entry in archive.infolist():
        if entry.filename == MANIFEST:
            continue
        kind = entry.external_attr >> 16
        if entry.filename in found or entry.is_dir() or (stat.S_IFMT(kind) and not stat.S_ISREG(kind)):
            raise RunError(f'{path}: "{entry.filename[:100]}" is no ordinary file, or is there twice. It is not imported.')
        found[entry.filename] = entry
    listed = {one["path"] for one in files}
    if len(listed) != len(files) or listed != set(found):
        raise RunError(f"{path}: {MANIFEST} lists other files than the archive holds. It is damaged, or was changed.")
    for one in files:
        parts = PurePosixPath(one["path"]).parts
        plain = "/".join(parts) == one["path"] and all(PART.fullmatch(part) and part not in (".", "..") for part in parts)
        if not plain or parts[0] not in OURS - LEFT_OUT or len(one["path"]) > 1000:
            raise RunError(f'{path}: "{one["path"][:100]}" is no path within a run folder. Nothing is imported.')
        if not 0 <= one["bytes"] <= MOST_FILE or found[one["path"]].file_size != one["bytes"]:
            raise RunError(f'{path}: "{one["path"][:100]}" is not as large as {MANIFEST} says, or larger than {MOST_FILE / 2**30:.0f} GiB.')
    return [(one, found[one["path"]]) for one in files]


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, one: dict[str, Any], place: Path, path: Path) -> None:
    """Write one entry, never more bytes than were announced, and check its digest."""
    place.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), one["bytes"]
    with archive.open(entry) as source, place.open("xb") as target:
        while chunk := source.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise RunError(f'{path}: "{one["path"][:100]}" holds more bytes than it says. Nothing is imported.')
            digest.update(chunk)
            target.write(chunk)
    if left or digest.hexdigest() != one["sha256"]:
        raise RunError(f'{path}: "{one["path"][:100]}" is not what was exported: its digest differs. Ask for the archive again.')


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int, path: Path) -> bytes:
    with archive.open(entry) as source:
        content = source.read(most + 1)
    if len(content) > most:
        raise RunError(f"{path}: {MANIFEST} is larger than {most / 2**20:.0f} MiB. No run needs that.")
    return content


def _check_run(folder: Path, path: Path) -> None:
    """Refuse an archive of something else than a run."""
    try:
        Store(folder).manifest()
    except RunError as error:
        raise RunError(f"{path} holds no run that can be read: {str(error).replace(str(folder), 'the run in it')}") from None
