"""Is a run folder what its runs wrote? Reads every byte of it once; changes nothing, and needs no lock.

verify   all results against their seals, manifest, study, status, searches, answers of detectors, and every file of the report
"""

from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.execution.run_folder import Store
from workbench.report import document
from workbench.storage import DamagedFile, file_digest, read_json, read_table


def verify(folder: str | Path) -> dict[str, Any]:
    """{run, whole (bool), results, unsealed, damaged [{path, why}], again}.

    results    how many results were checked;  unsealed   how many of them have no seal, because an earlier version wrote them: they were
               only read, as far as their formats tell damage
    damaged    what is damaged or missing, each with its path below the run folder. A result that the manifest calls done and that is
               gone is missing; one that is still to be computed is not
    again      the command that mends it: damaged results are set aside and computed again, all else is written anew
    Raises     RunError when the folder is no run, or of another layout
    """
    store = Store(folder)
    store.refuse_other_layout()
    if not store.is_run():
        store.manifest()
    damaged, results, needed = [], store.results(), _needed(store)

    def add(stage: str, key: str, path: str, why: str) -> None:
        spare = "" if needed is None or (stage, key) in needed else "; the study as it is now does not need it: remove it"
        damaged.append({"path": path, "why": why + spare})

    for stage, key in results:
        if fault := store.fault(stage, key):
            add(stage, key, "/".join(filter(None, ("nodes", stage, key, fault[0]))), fault[1])
    for path in sorted(store.folder.glob("nodes/*/.*.search")):
        if why := store.search_fault(path):
            add(path.parent.name, path.name.split(".")[1], path.relative_to(store.folder).as_posix(), why)
    damaged += [{"path": name, "why": why} for name, why in (*_manifest(store), *_small(store), *_answers(store), *_report(store))]
    unsealed = sum(not store.is_sealed(*one) for one in results)
    about = {"run": store.folder.name, "whole": not damaged, "results": len(results), "unsealed": unsealed}
    return about | {"damaged": damaged, "again": store.command()}


def _needed(store: Store) -> set[tuple[str, str]] | None:
    """{(stage, key)} of the manifest; None when it does not say."""
    try:
        nodes = store.manifest()["nodes"]
    except RunError:
        return None
    return {(node["stage"], key) for node in nodes if "stage" in node for key in node.get("shards", ())}


def _manifest(store: Store) -> list[tuple[str, str]]:
    """(path, why) of a damaged manifest, or of the results it calls done and that are gone."""
    try:
        nodes = store.manifest()["nodes"]
    except RunError as error:
        return [("manifest.json", str(error))]
    gone = [(node["stage"], key) for node in nodes if node["state"] == "done" and "stage" in node for key in node.get("shards", ())]
    return [(f"nodes/{stage}/{key}", "the result is missing") for stage, key in dict.fromkeys(gone) if not store.has(stage, key)]


def _small(store: Store) -> list[tuple[str, str]]:
    """(path, why) of study and status."""
    found = []
    try:
        store.study()
    except RunError as error:
        found.append(("study.json", str(error)))
    if sentence := store.status()[1]:
        found.append(("status.json", sentence))
    return found


def _answers(store: Store) -> list[tuple[str, str]]:
    """(path, why) of what detectors have said of images; their tables carry checksums."""
    found = []
    for path in sorted(store.folder.glob("answers/*/*.parquet")):
        try:
            read_table(path)
        except DamagedFile as error:
            found.append((path.relative_to(store.folder).as_posix(), error.why))
    return found


def _report(store: Store) -> list[tuple[str, str]]:
    """(path, why) of every file of the report that is not what was written; the report's own manifest lists them with their digests."""
    folder, name = store.report_folder, store.report_folder.name
    if not (folder / "report.json").exists():
        done = _manifest_done(store)
        return [(f"{name}/report.json", "the run has computed everything, and its report is missing")] if done else []
    found = []
    try:
        document.load(folder)
    except RunError as error:
        found.append((f"{name}/report.json", str(error)))
    try:
        listed = read_json(folder / "manifest.json")["files"]
        pairs = [(Path(file).as_posix(), one["bytes"], one["sha256"]) for file, one in listed.items()]
    except FileNotFoundError:
        return [*found, (f"{name}/manifest.json", "the file is missing")]
    except (DamagedFile, KeyError, TypeError, AttributeError) as error:
        why = error.why if isinstance(error, DamagedFile) else "it does not list files with their digests"
        return [*found, (f"{name}/manifest.json", why)]
    known = {path for path, _ in found}
    for file, size, digest in pairs:
        path = folder / file
        if f"{name}/{file}" in known or not path.resolve().is_relative_to(folder.resolve()):
            continue
        why = _differs(path, size, digest)
        if why:
            found.append((f"{name}/{file}", why))
    return found


def _manifest_done(store: Store) -> bool:
    try:
        nodes = store.manifest()["nodes"]
    except RunError:
        return False
    return bool(nodes) and all(node["state"] == "done" for node in nodes)


def _differs(path: Path, size: int, digest: str) -> str | None:
    if not path.is_file():
        return "the file is missing"
    try:
        if path.stat().st_size != size or file_digest(path) != digest:
            return "its bytes are not those that were written"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return None
