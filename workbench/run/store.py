"""The run folder: results by key, manifest, status, log; one writer at a time.

runs/<study>/   study.toml study.json manifest.json status.json run.log nodes/<stage>/<key>/ report/
A result is a folder that appears by one rename, so it is there whole or not at all.
"""

import os
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from workbench.errors import RunError
from workbench.storage import read_json, write_json, write_text

LAYOUT = 1


class Store:
    """Reads and writes one run folder."""

    def __init__(self, folder):
        self.folder = Path(folder)

    @property
    def report_folder(self):
        """Where the report is."""
        return self.folder / "report"

    def open_for(self, study):
        """Create the folder, or check that it belongs to this workbench; write the study into it.

        Raises   RunError for a folder of another layout, one that holds something else, or one that cannot be written
        """
        manifest = self.folder / "manifest.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            ours = (".lock", "run.log", "status.json", "study.json", "study.toml")  # a full disk may have stopped it before the manifest
            if not manifest.exists() and any(p.name not in ours for p in self.folder.iterdir()):
                raise RunError(f"{self.folder} holds files but no manifest.json, so it is no run folder. Choose another --out.")
            if manifest.exists() and read_json(manifest).get("layout") != LAYOUT:
                raise RunError(
                    f"{self.folder} was written by another version of the workbench (layout "
                    f"{read_json(manifest).get('layout')}, this one writes {LAYOUT}). Choose another --out."
                )
            write_json(self.folder / "study.json", study.model_dump(mode="json"))
            write_text(self.folder / "study.toml", study.text or "# built in Python; see study.json\n")
        except OSError as error:
            raise RunError(f"The run folder {self.folder} cannot be written: {error}.") from error

    @contextmanager
    def lock(self):
        """Hold the folder for one process; RunError when another has it or it cannot be written."""
        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(f"Another process is running in {self.folder}. Wait for it, or choose another --out.") from error
        except OSError as error:
            raise RunError(f"The run folder {self.folder} cannot be written: {error}.") from error
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self):
        """Remove what a killed process left half-written; only the holder of the lock may."""
        for left in [*self.folder.glob("nodes/*/.*.tmp"), *self.folder.glob(".*.tmp"), *self.report_folder.rglob(".*.tmp")]:
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def kept_search(self, stage, key, name):
        """What a killed attack or training had reached, or None; its result makes it superfluous."""
        path = self.path(stage, f".{key}.{name}.search")
        if not path.exists():
            return None
        import torch

        return torch.load(path, weights_only=True)

    def keep_search(self, stage, key, name, state):
        """Keep what it has reached, by one rename."""
        import torch

        path = self.path(stage, f".{key}.{name}.search")
        torch.save(state, path.with_name(f"{path.name}.tmp"))
        os.replace(path.with_name(f"{path.name}.tmp"), path)

    def path(self, stage, key):
        """The folder of a result."""
        return self.folder / "nodes" / stage / key

    def has(self, stage, key):
        """Whether the result is there."""
        return self.path(stage, key).is_dir()

    def take(self, stage, key, other):
        """Copy a result from another store that has it under the same key; whether it is here now."""
        if not self.has(stage, key) and other.has(stage, key):
            with self.writing(stage, key) as folder:
                shutil.copytree(other.path(stage, key), folder, dirs_exist_ok=True)
        return self.has(stage, key)

    @contextmanager
    def writing(self, stage, key):
        """Yield a temporary folder that becomes the result when the block ends well.

        Raises   RunError when the disk is full or read-only; what was finished before stays
        """
        final = self.path(stage, key)
        temporary = final.with_name(f".{key}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            temporary.mkdir(parents=True)
            yield temporary
            os.replace(temporary, final)
            for left in final.parent.glob(f".{key}.*.search"):
                left.unlink()
        except OSError as error:
            raise RunError(
                f"The result {stage}/{key} cannot be written: {error}. What was finished is kept; make room and run the same command again."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def write_manifest(self, plan, seconds, failed=None):
        """Every node with state, key and time. `seconds` {node id: seconds, kept from earlier runs too}."""
        nodes = []
        for node in plan.nodes:
            present = [self.has(node.stage, shard.key) for shard in node.shards]
            state = "done" if all(present) else "running" if any(present) else "waiting"
            nodes.append(
                {
                    "id": node.id,
                    "stage": node.stage,
                    "variant": node.variant,
                    "prompt_set": node.prompt_set,
                    "state": "failed" if node.id == failed else state,
                    "key": node.key,
                    "shards": [shard.key for shard in node.shards],
                    "seconds": seconds.get(node.id),
                }
            )
        write_json(self.folder / "manifest.json", {"layout": LAYOUT, "nodes": nodes})

    def manifest(self):
        """The manifest; RunError when the folder is no run."""
        path = self.folder / "manifest.json"
        if not path.exists():
            raise RunError(f"{self.folder} is no run folder (no manifest.json). List runs with: workbench list runs")
        return read_json(path)

    def write_status(self, **values):
        """status.json: what is going on, for whoever watches; pid with its start time, so that a reused pid is noticed."""
        me = psutil.Process()
        write_json(
            self.folder / "status.json",
            {"pid": me.pid, "pid_started": me.create_time(), "updated": time.time(), **values},
        )

    def is_running(self):
        """Whether the process that wrote status.json is still that process."""
        path = self.folder / "status.json"
        if not path.exists():
            return False
        status = read_json(path)
        try:
            return psutil.Process(status["pid"]).create_time() == status["pid_started"] and status["state"] == "running"
        except (psutil.NoSuchProcess, psutil.AccessDenied, KeyError):
            return False
