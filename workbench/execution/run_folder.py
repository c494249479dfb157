"""The run folder: results by key, manifest, status, log; one writer at a time.

runs/<study>/   study.toml study.json manifest.json status.json run.log nodes/<stage>/<key>/ report/ set-aside/
                start.json start.log, where the run was started as a process of its own (`start`)
A result is a folder that appears by one rename, so it is there whole or not at all; in it lies its seal (`digests`), and every
read checks the files against the seal.
"""

import hashlib
import itertools
import os
import re
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import resources
from workbench.errors import RunError
from workbench.execution import claims, digests
from workbench.execution import lock as folder_lock
from workbench.storage import DamagedFile, read_json, write_json, write_text

if TYPE_CHECKING:
    import psutil

    from workbench.execution.plan import Node, Plan
    from workbench.study.study import Study


LAYOUT = 1
START_SECONDS = 120  # in which a run plans and loads its model before it says what it does
STATES = ("done", "running", "waiting", "failed")
SET_ASIDE = "set-aside"
START, START_LOG = "start.json", "start.log"  # which process was started for the run, and what it printed
OURS = {
    ".lock",
    "run.log",
    "status.json",
    "study.json",
    "study.toml",
    "where.json",
    START,
    START_LOG,
    "manifest.json",
    "nodes",
    "report",
    "answers",
    claims.FOLDER,
    SET_ASIDE,
}
STUDY_KEYS = {"schema_version", "name", "concept", "model", "prompts", "variants"}
KEY = re.compile(r"[0-9a-f]{24}")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of stages and keys in a manifest: never a path
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp|\..+\.search\.tmp")  # what `atomic`, `writing` and `keep_search` leave when killed
PATIENCE = 1.0  # seconds for which a lock is tried: whoever asks whether it is held takes it for an instant
SEARCH = b"workbench search 1 "  # a search state begins with this, its sha256 and a line end; older ones begin with what torch writes


class DamagedResult(RunError):
    """A result of a run is not what was written."""


@dataclass(frozen=True)
class Damage:
    """A result that was set aside because it is damaged, and what is wrong with which of its files."""

    stage: str
    key: str
    file: str
    why: str
    aside: Path

    def __str__(self) -> str:
        what = f"nodes/{self.stage}/{self.key}" + (f"/{self.file}" if self.file else "")
        return f"{what} is damaged ({self.why}). It was set aside in {self.aside} and is computed again."


class Store:
    """Reads and writes one run folder.

    What is damaged, and what is computed again. Every file of a result is checked against the seal before it is read (`result`,
    `file`), so nothing is ever computed from damaged bytes. When a run starts it checks all results of its plan and sets damaged
    ones aside (`mend`); being gone, they are computed again.
    A key says from which inputs a result was made, by their keys. A result that was made from a damaged one, before it was damaged,
    is therefore still good, as long as its input comes back as it was. That is seen when the input has been computed again: its files
    are compared with those the old seal names. Where they are the same, every other result stays. Where they are not (another
    machine, a search that ends by the clock), the results that were made from it are set aside as well and computed again
    (`execute.drop_derived`). Where no seal says what the old files were, or a result was removed whole, the others stay.
    Results of a version that wrote no seals are sealed by the first run that opens their folder (`mend`), if their formats can be
    read; until then they are read unchecked, and `workbench verify` counts them.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.is_locked = self.is_mended = False
        self.n_set_aside = 0  # results that this process has set aside
        self._searches: dict[tuple[str, str], set[str]] = {}  # names of the searches that this process has begun, by result
        self.warn: Callable[[str], object] = warnings.warn  # called with a sentence about what was damaged and set aside

    @property
    def report_folder(self) -> Path:
        """Where the report is."""
        return self.folder / "report"

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written: it is the example run, which all users of an installation share."""
        return resources.is_example(self.folder)

    @property
    def name(self) -> str:
        """The name of the run: that of its folder; `example` for the example run."""
        return resources.EXAMPLE if self.read_only else self.folder.name

    def refuse_read_only(self) -> None:
        """RunError for the example run."""
        if self.read_only:
            raise RunError(
                f"{self.folder} is the example run, in which nothing is written. Run its study into a folder of your own with --out, "
                "or copy the run: workbench export-run example --out example.zip, then workbench import-run example.zip"
            )

    # whose folder it is

    def look(self) -> None:
        """Refuse a folder that is no run folder, without touching anything in it.

        It is one when it is new or empty, when its manifest.json or study.json is one that a run writes, or when it holds nothing but
        what a run writes.
        Raises   RunError for a folder of another layout, one that holds something else, or one that cannot be read
        """
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise RunError(f"{self.folder} is a file, and a run needs a folder. Choose another --out.")
            self.refuse_other_layout()
            if self.folder.is_dir() and any(self.folder.iterdir()) and not self._is_ours():
                copied = " What it holds of a run can be used from another folder, with --take-from." if self.has_results() else ""
                raise RunError(
                    f"{self.folder} holds files but no manifest.json or study.json of a run, so it is no run folder and nothing in it is "
                    f"touched. Choose another --out.{copied}"
                )
        except OSError as error:
            raise RunError(f"The folder {self.folder} cannot be read: {error}. Choose another --out.") from error

    def _is_ours(self) -> bool:
        manifest, study = self._peek("manifest.json"), self._peek("study.json")
        if isinstance(manifest, dict) and {"layout", "nodes"} <= manifest.keys():
            return True
        if isinstance(study, dict) and study.keys() >= STUDY_KEYS:
            return True
        entries = list(self.folder.iterdir())
        if all(one.name in OURS for one in entries) and self.has_results():
            return True
        bare = (".lock", claims.FOLDER, START, START_LOG)
        begun = (".lock", ".study.json", ".study.toml", ".manifest.json", f".{START}")  # killed before it had written its study
        return all(one.name in bare or (one.name.startswith(begun) and TEMPORARY.fullmatch(one.name)) for one in entries)

    def has_results(self) -> bool:
        """Whether there is any result of a run in the folder."""
        return any(KEY.fullmatch(one.name) and one.is_dir() for one in self.folder.glob("nodes/*/*"))

    def is_run(self) -> bool:
        """Whether it looks like a run folder, perhaps a damaged one: it has a manifest, or a study and results."""
        try:
            return (self.folder / "manifest.json").is_file() or ((self.folder / "study.json").is_file() and self.has_results())
        except OSError:
            return False

    def refuse_other_layout(self) -> None:
        """RunError for a run of another version of the workbench; a damaged manifest is passed over."""
        manifest = self._peek("manifest.json")
        if isinstance(manifest, dict) and "nodes" in manifest and manifest.get("layout", LAYOUT) != LAYOUT:
            raise RunError(
                f"{self.folder} was written by another version of the workbench (layout {manifest['layout']!r}, this one reads and writes "
                f"{LAYOUT}). Use that version, or run the study into another folder with --out."
            )

    def _peek(self, name: str) -> Any:
        """The content of a JSON file of the folder; None when it is missing or damaged."""
        try:
            return self._read(name)
        except DamagedFile:
            return None

    def _read(self, name: str) -> Any:
        """The content of a JSON file of the folder; DamagedFile when it is missing or damaged."""
        try:
            return read_json(self.folder / name)
        except OSError as error:
            why = "the file is missing" if isinstance(error, FileNotFoundError) else error.strerror or error
            raise DamagedFile(self.folder / name, why) from None

    def open_for(self, study: "Study") -> None:
        """Create the folder, or check that it belongs to this workbench; write the study into it.

        Raises   RunError as `look`, or when the folder cannot be written
        """
        self.look()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "study.json", study.model_dump(mode="json"))
            write_text(self.folder / "study.toml", study.text or "# built in Python; see study.json\n")
        except OSError as error:
            raise RunError(f"The run folder {self.folder} cannot be written: {error}.") from error

    # who works in it

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process; RunError when another has it, it cannot be written, or it is no run folder (`look`)."""

        self.refuse_read_only()
        self.look()
        with self._kernel_lock(), claims.Claims(self.folder, shares=False) as own:
            other = next((holder for _, holder in own.others()), None)
            if other is not None or not own.take(claims.LEADER):
                raise self._busy(other)
            self.is_locked = True
            try:
                self._sweep()
                yield
            finally:
                self.is_locked = False

    def _busy(self, other: "claims.Holder | None" = None) -> RunError:
        who = f" ({other})" if other else ""
        return RunError(f"Another process is running in {self.folder}{who}. Wait for it, or choose another --out.")

    @contextmanager
    def _kernel_lock(self) -> Iterator[None]:
        """Hold `.lock`, which says to this machine which process leads."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=PATIENCE)
        except Timeout as error:
            raise self._busy() from error
        except OSError as error:
            raise RunError(f"The run folder {self.folder} cannot be written: {error}.") from error
        try:
            yield
        finally:
            lock.release()

    def join(self, study: "Study", own: "claims.Claims") -> None:
        """Work on the folder beside other processes that compute the same study, each what it has claimed.

        own      the claims of this process
        Raises   RunError as `lock`, when a process has the folder for itself, or when others compute another study in it
        """
        self.refuse_read_only()
        self.look()
        is_held = folder_lock.is_held(self.folder / ".lock")  # first: who shares claims before it locks
        others = [holder for _, holder in own.others()]
        alone = next((holder for holder in others if not holder.shares), None)
        if alone or (not others and is_held):
            raise self._busy(alone)
        said = self._peek("study.json")
        if others and isinstance(said, dict) and said != study.model_dump(mode="json"):
            raise RunError(f"{others[0]} computes another study in {self.folder}. Wait for it, or choose another --out.")
        self.is_locked = True

    @contextmanager
    def lead(self, own: "claims.Claims") -> Iterator[bool]:
        """Write manifest, status, log and report of a folder that is shared; False when another process does."""
        if not own.take(claims.LEADER):
            yield False
            return
        try:
            with self._kernel_lock():
                self._sweep(own)
                yield True
        finally:
            own.release(claims.LEADER)

    def is_running(self) -> bool:
        """Whether a process holds the folder; where this user may not find out, whether the one that status.json names is still there."""
        if self.read_only:
            return False
        held = folder_lock.is_held(self.folder / ".lock")
        if held or claims.is_led(self.folder):
            return True
        if held is not None:
            return held
        status, _ = self.status()
        return status.get("state") == "running" and _lives(status)

    def is_starting(self) -> bool:
        """Whether a run was begun a moment ago and says nothing yet: its process was started and has not come to its status, or its
        study is fresh and newer than its status.
        """
        if self.read_only:
            return False
        started = self.started()
        if _lives(started) and self.status()[0].get("pid") != started["pid"]:
            return True
        study, status = self.folder / "study.json", self.folder / "status.json"
        with suppress(OSError):
            begun = study.stat().st_mtime
            return time.time() - begun < START_SECONDS and not (status.exists() and status.stat().st_mtime >= begun)
        return False

    def started(self) -> dict[str, Any]:
        """What start.json says, {pid, pid_started, command}; {} without one, or where it is damaged."""
        said = self._peek(START)
        return said if isinstance(said, dict) and type(said.get("pid")) is int and said["pid"] > 0 else {}

    def starter(self) -> "psutil.Process | None":
        """The psutil.Process that start.json names, while it lives; or None."""
        import psutil

        started = self.started()
        return psutil.Process(started["pid"]) if _lives(started) else None

    def holder(self) -> "psutil.Process | None":
        """The psutil.Process that provably holds the folder, or None (`folder_lock.holder`)."""
        return folder_lock.holder(self.folder / ".lock", self.status()[0].get("pid"))

    def _sweep(self, own: "claims.Claims | None" = None) -> None:
        """Remove half-written files of a killed process; only the holder of the lock may do this.

        own   where the folder is shared: what others have claimed is theirs
        """
        theirs = {name.partition(".")[2] for name, _ in own.others()} if own else set()
        places = ("nodes/*/.*.tmp", ".*.tmp", *(() if theirs else ("answers/*/.*.tmp",)))
        for left in [*(one for place in places for one in self.folder.glob(place)), *self.report_folder.rglob(".*.tmp")]:
            if left.name.split(".")[1] not in theirs:
                _discard(left)

    def remove_half_written(self, stage: str, key: str) -> None:
        """Remove what a process that has ended had begun to write of a result; what a search had reached stays."""
        for left in self.path(stage, key).parent.glob(f".{key}.*.tmp"):
            _discard(left)

    # searches that are not finished

    def kept_search(self, stage: str, key: str, name: str) -> Any:
        """The saved state of a killed attack or training, or None. It is removed when the result is finished.

        A damaged one is set aside with a warning, and the search starts from the beginning.
        """
        self._searches.setdefault((stage, key), set()).add(name)
        path = self.path(stage, f".{key}.{name}.search")
        if not path.exists():
            return None
        import torch

        if not self.search_fault(path):
            with open(path, "rb") as file:
                sealed = file.read(len(SEARCH)) == SEARCH
                file.seek(len(SEARCH) + 65 if sealed else 0)
                if sealed:
                    return torch.load(file, weights_only=True)
                with suppress(Exception):  # of an earlier version, without digest: bytes that torch cannot read raise errors of many kinds
                    return torch.load(file, weights_only=True)
        aside = self._put_aside(path, stage, f"{key}.{name}.search")
        self.warn(
            f"What the search {stage}/{key} had reached is damaged. It was set aside in {aside}, and the search starts from the beginning."
        )
        return None

    def search_fault(self, path: Path) -> str | None:
        """What is wrong with the saved state of a search, in words; None when nothing is, or when it has no digest."""
        try:
            with open(path, "rb") as file:
                if file.read(len(SEARCH)) == SEARCH:
                    said = file.read(65)
                    if said != f"{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode():
                        return "its bytes are not those that were written"
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        return None

    def keep_search(self, stage: str, key: str, name: str, state: Any) -> None:
        """Save the state of a search, with its digest, by one rename."""
        import torch

        self._searches.setdefault((stage, key), set()).add(name)
        path = self.path(stage, f".{key}.{name}.search")
        temporary = path.with_name(f"{path.name}.tmp")
        with open(temporary, "w+b") as file:
            file.write(SEARCH + b"0" * 64 + b"\n")
            try:
                torch.save(state, file)
            except RuntimeError as error:
                raise OSError(str(error)) from error
            file.seek(len(SEARCH) + 65)
            said = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(len(SEARCH))
            file.write(said.encode())
        os.replace(temporary, path)

    # results

    def path(self, stage: str, key: str) -> Path:
        """The folder of a result. Read results through `result` or `file`, which check them."""
        return self.folder / "nodes" / stage / key

    def has(self, stage: str, key: str) -> bool:
        """Whether the result is there."""
        return self.path(stage, key).is_dir()

    def result(self, stage: str, key: str) -> Path:
        """The folder of a result, every file checked against its seal, once per process.

        Raises   DamagedResult that names the file; RunError when the result is not there
        """
        if not self.has(stage, key):
            raise RunError(f"The result {stage}/{key} is missing in {self.folder}. Run the study again to make it: {self.command()}")
        self._refuse(stage, key, self.fault(stage, key, look_inside=False))
        return self.path(stage, key)

    def kept(self, result: tuple[str, str], name: str) -> bool:
        """Whether a result (stage, key) has a file of this name, or its seal says that it should have: an example run has only some."""
        folder = self.path(*result)
        return (folder / name).exists() or name in (digests.read(folder) or {})

    def file(self, stage: str, key: str, name: str) -> Path:
        """The path of one file of a result. Only that file is checked against the seal: pages read single files of many results.

        Raises   as `result`
        """
        if not self.has(stage, key):
            return self.result(stage, key) / name
        self._refuse(stage, key, self.fault(stage, key, only=(name,), look_inside=False))
        return self.path(stage, key) / name

    def fault(
        self, stage: str, key: str, only: Collection[str] | None = None, sizes_only: bool = False, look_inside: bool = True
    ) -> digests.Fault | None:
        """(file, what is wrong with it) of the first fault of a result that is there; None when there is none (see `digests.fault`).

        look_inside   whether a result without a seal is read, as far as its formats tell damage
        """
        folder = self.path(stage, key)
        if found := digests.fault(folder, only, sizes_only):
            return found
        if not self.is_sealed(stage, key):
            if self._all_sealed():
                return digests.SEAL, "the file is missing"
            if look_inside and not sizes_only:
                return digests.readable(folder)
        return None

    def is_sealed(self, stage: str, key: str) -> bool:
        """Whether a result has a seal; those of earlier versions have none."""
        return (self.path(stage, key) / digests.SEAL).exists()

    def _all_sealed(self) -> bool:
        """Whether a run has sealed every result of the folder, by the manifest."""
        manifest = self._peek("manifest.json")
        return isinstance(manifest, dict) and manifest.get("digests") is True

    def _refuse(self, stage: str, key: str, found: digests.Fault | None) -> None:
        if found is None:
            return
        file, why = found
        where = self.path(stage, key) / file
        if self.is_locked:
            aside = self.set_aside(stage, key)
            raise DamagedResult(f"{where} is damaged ({why}). It was set aside in {aside}; run the same command again to compute it again.")
        raise DamagedResult(f"{where} is damaged ({why}). Running the study again sets it aside and computes it again: {self.command()}")

    @contextmanager
    def naming_unreadable(self) -> Iterator[None]:
        """Report a file of a result that cannot be read in the block as damage, whether or not its seal fits."""
        try:
            yield
        except (DamagedFile, FileNotFoundError) as error:
            path, why = (error.path, error.why) if isinstance(error, DamagedFile) else (Path(error.filename or ""), "the file is missing")
            with suppress(ValueError):
                stage, key, *rest = path.relative_to(self.folder / "nodes").parts
                if rest and self.has(stage, key):
                    if self.is_locked:  # a seal of unreadable bytes does not describe the result that was there
                        (self.path(stage, key) / digests.SEAL).unlink(missing_ok=True)
                    self._refuse(stage, key, ("/".join(rest), why))
            raise

    def set_aside(self, stage: str, key: str) -> Path:
        """Move a result out of the way, without removing it; returns where it is."""
        self.n_set_aside += 1
        return self._put_aside(self.path(stage, key), stage, key)

    def seal_of_set_aside(self, stage: str, key: str) -> digests.Seal | None:
        """The seal of the result that was last set aside under this key; None when there is none, or its seal is damaged too."""
        found = [aside for aside in self._asides(stage, key) if aside.exists()]
        try:
            return digests.read(found[-1]) if found else None
        except DamagedFile:
            return None

    def _asides(self, stage: str, name: str) -> Iterator[Path]:
        """Places for a result that is set aside: those in use, and then the first free one."""
        for number in itertools.count(1):
            aside = self.folder / SET_ASIDE / stage / (name if number == 1 else f"{name}-{number}")
            yield aside
            if not aside.exists():
                return

    def _put_aside(self, path: Path, stage: str, name: str) -> Path:
        *_, aside = self._asides(stage, name)
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, aside)
        return aside

    def mend(self, nodes: "Iterable[Node]") -> list[Damage]:
        """Check the results of these nodes and seal those that have no seal; only the holder of the lock may. See the class.

        returns   [Damage], one for each result that was damaged and is now set aside
        """
        found: list[Damage] = []
        sealed = self._all_sealed()
        self.is_mended = sealed
        wanted = [(node.stage, shard.key) for node in nodes for shard in node.shards if self.has(node.stage, shard.key)]
        for stage, key in dict.fromkeys(wanted + ([] if sealed else self.results())):
            if not (fault := self.fault(stage, key)):
                if not self.is_sealed(stage, key):
                    digests.seal(self.path(stage, key))
            elif (stage, key) in wanted:
                found.append(Damage(stage, key, *fault, self.set_aside(stage, key)))
        self.is_mended = True
        return found

    def results(self) -> list[tuple[str, str]]:
        """[(stage, key)] of every result in the folder."""
        found = (one for one in self.folder.glob("nodes/*/*") if not one.name.startswith(".") and one.is_dir())
        return sorted((one.parent.name, one.name) for one in found)

    def take(self, stage: str, key: str, other: "Store", sealed: Callable[[digests.Seal], object] = lambda seal: None) -> bool:
        """Copy an undamaged result from another store. Returns whether this store has the result now. `sealed` as in `writing`."""
        if not self.has(stage, key) and other.has(stage, key) and not other.fault(stage, key):
            with self.writing(stage, key, sealed) as folder:
                shutil.copytree(other.path(stage, key), folder, dirs_exist_ok=True)
        return self.has(stage, key)

    @contextmanager
    def writing(self, stage: str, key: str, sealed: Callable[[digests.Seal], object] = lambda seal: None) -> Iterator[Path]:
        """Yield a temporary folder that is sealed and becomes the result when the block ends well.

        sealed   called with the seal just before
        Raises   RunError when the disk is full or read-only; what was finished before stays
        """
        final = self.path(stage, key)
        temporary = final.with_name(f".{key}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            temporary.mkdir(parents=True)
            yield temporary
            sealed(digests.read(temporary) or digests.seal(temporary))
            try:
                os.replace(temporary, final)
            except OSError:
                if not final.is_dir():  # else another process has computed the same and was faster
                    raise
            for name in self._searches.pop((stage, key), ()):
                self.path(stage, f".{key}.{name}.search").unlink(missing_ok=True)
        except OSError as error:
            raise RunError(
                f"The result {stage}/{key} cannot be written: {error}. What was finished is kept; make room and run the same command again."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    # manifest, status, study

    def write_manifest(self, plan: "Plan", seconds: Mapping[str, float | None], failed: str | None = None) -> None:
        """Write every node with state, key and time, and `digests` after `mend`: every result of the folder has a seal.

        seconds   {node id: seconds, kept from earlier runs too}
        """
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
        write_json(self.folder / "manifest.json", {"layout": LAYOUT, "nodes": nodes} | ({"digests": True} if self.is_mended else {}))

    def manifest(self) -> dict[str, Any]:
        """The manifest: {layout, nodes}.

        Raises   RunError when the folder is no run or of another layout, or the manifest is missing or damaged: then with what to do
        """
        path = self.folder / "manifest.json"
        self.refuse_other_layout()
        if not self.is_run():
            raise RunError(f"{self.folder} is no run folder (no manifest.json). List runs with: workbench list runs")
        try:
            manifest = self._read("manifest.json")
            if why := _manifest_fault(manifest):
                raise DamagedFile(path, why)
        except DamagedFile as error:
            raise RunError(f"{path} is damaged ({error.why}). {self._rebuilt()}") from None
        return manifest

    def _rebuilt(self) -> str:
        """How to replace a damaged manifest: run again, here or, where this folder would be refused, in another folder."""
        try:
            self.look()
        except RunError:
            return f"Run the study into another folder with --take-from {self.folder}: every result that is whole is copied."
        return f"Run the study again to write a new one, and results are kept: {self.command()}"

    def earlier_seconds(self) -> dict[str, float | None]:
        """{node id: seconds} of earlier runs in this folder: as the manifest says, or the log where there is no manifest."""
        try:
            return {node["id"]: node.get("seconds") for node in self.manifest()["nodes"] if "id" in node}
        except RunError:
            found: dict[str, float | None] = {}
            for name, seconds in re.findall(r"^(\S+) \d+/\d+ (\d+\.\d) s$", self._log(), re.MULTILINE):
                found[name] = (found.get(name) or 0.0) + float(seconds)
            return found

    def write_status(self, **values: Any) -> None:
        """Write status.json: the state of the run, the command that resumes it, the process id and its start time."""
        import psutil

        me = psutil.Process()
        write_json(
            self.folder / "status.json",
            {"pid": me.pid, "pid_started": me.create_time(), "updated": time.time(), **values},
        )

    def status(self) -> tuple[dict[str, Any], str | None]:
        """(what status.json says, None); ({}, a sentence) when it is damaged and passed over; ({}, None) without one."""
        try:
            return self.read_status(), None
        except DamagedFile as error:
            return {}, f"status.json is damaged ({error.why}) and is passed over; the next run writes a new one."

    def read_status(self) -> dict[str, Any]:
        """What status.json says; {} without one. DamagedFile when it is damaged."""
        path = self.folder / "status.json"
        if not path.is_file():
            return {}
        status = self._read("status.json")
        if why := _status_fault(status):
            raise DamagedFile(path, why)
        return status

    def command(self) -> str:
        """The command line that made the run, from its status or, in older folders, from its log; a sentence when neither has it."""
        if command := self.status()[0].get("command"):
            return command
        if isinstance(command := self.started().get("command"), str):
            return command
        found = re.findall(r"^\S+ (workbench .+): \d+ nodes to do", self._log(), re.MULTILINE)
        return found[-1] if found else f"workbench run STUDY --out {self.folder}, with the study of this run"

    def _log(self) -> str:
        try:
            return (self.folder / "run.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def study(self) -> dict[str, Any]:
        """study.json as a dict; RunError when it is missing or damaged."""
        path = self.folder / "study.json"
        try:
            study = self._read("study.json")
            if not isinstance(study, dict):
                raise DamagedFile(path, "an object was expected")
        except DamagedFile as error:
            raise RunError(f"{path} is damaged ({error.why}). Run the study again to write a new one: {self.command()}") from None
        return study

    def write_study_folder(self, folder: str | Path) -> None:
        """Save the folder of the study file: relative paths in the study start there."""
        write_json(self.folder / "where.json", {"study_folder": str(Path(folder).absolute())})

    def study_folder(self) -> str:
        """The folder of the study file; "." for a run of an earlier version.

        Raises   RunError when where.json is damaged
        """
        path = self.folder / "where.json"
        try:
            said = self._read("where.json") if path.is_file() else {"study_folder": "."}
            if not isinstance(said, dict) or not isinstance(said.get("study_folder"), str):
                raise DamagedFile(path, "an object with study_folder was expected")
        except DamagedFile as error:
            raise RunError(f"{path} is damaged ({error.why}). Run the study again to write a new one: {self.command()}") from None
        return said["study_folder"]


def _discard(left: Path) -> None:
    """Remove a half-written file or folder; anything that is not one stays."""
    if TEMPORARY.fullmatch(left.name):
        with suppress(OSError):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _manifest_fault(manifest: Any) -> str | None:
    """What is wrong with a manifest, in words; None when nothing is."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("nodes"), list) or "layout" not in manifest:
        return "an object with layout and a list of nodes was expected"
    for place, node in enumerate(manifest["nodes"]):
        if not isinstance(node, dict) or node.get("state") not in STATES:
            return f"node {place} has none of the states {', '.join(STATES)}"
        for name in ("id", "stage", "variant", "prompt_set", "key"):
            if not isinstance(node.get(name, ""), str if name in ("id", "stage") else str | None):
                return f"{name} of node {place} is no text"
        if not _is_number(node.get("seconds", 0) or 0):
            return f"seconds of node {place} is no number"
        names = [node.get("stage", "none"), *(node.get("shards", []) if isinstance(node.get("shards", []), list) else [None])]
        if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
            return f"node {place} names results that no run has"
    return None


def _lives(named: Mapping[str, Any]) -> bool:
    """Whether the process of a pid and its start time is still there; a process id alone may have passed on to another."""
    if not named:
        return False
    import psutil

    with suppress(psutil.Error, KeyError, OverflowError):
        process = psutil.Process(named["pid"])
        return process.create_time() == named.get("pid_started") and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e18 < value < 1e18


def _status_fault(status: Any) -> str | None:
    """What is wrong with a status, in words; None when nothing is."""
    if not isinstance(status, dict):
        return "an object was expected"
    pid = status.get("pid")
    if pid is not None and not (type(pid) is int and 0 < pid < 2**31):
        return "pid is no process id"
    for name in ("pid_started", "updated", "done", "of", "left_seconds"):
        value = status.get(name)
        if value is not None and not _is_number(value):
            return f"{name} is no number"
    for name in ("state", "node", "error", "command"):
        if not isinstance(status.get(name), str | None):
            return f"{name} is no text"
    return None
