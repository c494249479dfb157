"""Damaged results of a finished run: they are named, set aside and computed again, and never used."""

import json
import shutil

import pytest
import torch

import workbench
from workbench.errors import RunError
from workbench.execution import cost, digests, execute
from workbench.execution.run_folder import SEARCH, DamagedResult, Store
from workbench.execution.verify import verify
from workbench.storage import digest, file_digest, read_json, write_json

TABLES = ("rates", "retention", "activity", "effects", "neurons", "comparisons", "relocation", "verdict")


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return execute.Run(shutil.copytree(finished.folder, tmp_path / "r"))


def tables_of(run):
    return {name: run.document[name] for name in TABLES}


def shard_of(run, node_id):
    """(stage, key) of the first shard of a node."""
    node = next(node for node in run.store.manifest()["nodes"] if node["id"] == node_id)
    return node["stage"], node["shards"][0]


def again(study_file, run):
    """(the run resumed, ids of the nodes that were computed, sentences it warned of)."""
    computed, said = [], []
    watcher = execute.Watcher(node=lambda node, done, of, note="": computed.append(node.id), warning=said.append)
    resumed = workbench.run(study_file, run.folder, watcher=watcher)
    return resumed, set(computed), said


def zero(path):
    """Zero the last three quarters of the tensor bytes of a safetensors file; its header stays."""
    content = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    begin += (len(content) - begin) // 4
    content[begin:] = bytes(len(content) - begin)
    path.write_bytes(content)


def flip(path):
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def emptied(folder):
    for path in folder.iterdir():
        path.unlink()


DAMAGES = {  # of recordings: node and what happens to it
    "record:erased:target": lambda folder: zero(folder / "target.safetensors"),
    "record:base:target": lambda folder: flip(folder / "reference.safetensors"),
    "record:base:near": lambda folder: cut(folder / "target.safetensors"),
    "record:base:reference": lambda folder: (folder / "target.safetensors").write_bytes(b""),
    "record:erased:near": lambda folder: (folder / "target.safetensors").unlink(),
    "record:erased:reference": emptied,
    "record:pruned:target": lambda folder: (folder / digests.SEAL).unlink(),
    "record:pruned:near": lambda folder: cut(folder / digests.SEAL),
    "record:pruned:reference": lambda folder: write_json(folder / digests.SEAL, {"version": 1, "files": {}}),
    "record:pruned:paraphrase": lambda folder: (folder / "mask.safetensors").write_bytes(b"strange"),
}
OTHERS = {  # of other results: node and file with a flipped bit
    "generate:erased:embedding_pgd@erased": "images.safetensors",
    "erase:erased": "weights.safetensors",
    "attack:embedding_pgd@erased": "adversarial.parquet",
    "attack:paraphrase": "seconds.parquet",
    "score": "neurons.parquet",
    "detect:pruned:near": "detections.parquet",
}


def test_damaged_results_are_named_set_aside_and_computed_again_with_the_same_verdict(run, finished, study_file):
    places = {node: shard_of(run, node) for node in (*DAMAGES, *OTHERS)}
    good = {node: {p.name: p.read_bytes() for p in run.store.path(*place).iterdir()} for node, place in places.items()}
    for node, damage in DAMAGES.items():
        damage(run.store.path(*places[node]))
    for node, file in OTHERS.items():
        flip(run.store.path(*places[node]) / file)
    stage, key = places["attack:embedding_pgd@erased"]
    run.store.path(stage, f".{key}.attack.search").write_text("not what torch writes")
    shutil.rmtree(run.folder / "nodes" / "measure")
    assert len(verify(run.folder)["damaged"]) == len(places) + 1  # and the measure that is gone

    resumed, computed, said = again(study_file, run)
    assert tables_of(resumed) == tables_of(finished)
    assert computed == {*places, "measure"}  # what was made from a damaged result before it was damaged is still good
    log = (run.folder / "run.log").read_text()
    for node, (stage, key) in places.items():
        (sentence,) = (one for one in said if f"nodes/{stage}/{key}" in one)
        assert "is damaged" in sentence and f"set-aside/{stage}/{key}" in sentence and f"warning: {sentence}\n" in log
        assert (run.folder / "set-aside" / stage / key).is_dir()
        now = {path.name: path.read_bytes() for path in run.store.path(stage, key).iterdir()}
        if not node.startswith("attack"):  # which keeps how long it took
            assert now == good[node]
    (sentence,) = (one for one in said if "search" in one)
    assert "starts anew" in sentence and len(said) == len(places) + 1
    assert verify(run.folder)["whole"]
    first, second = (sorted((one.folder / "report" / "neuron-sets").glob("*.safetensors")) for one in (finished, resumed))
    assert len(first) >= 4 and [(p.name, p.read_bytes()) for p in first] == [(p.name, p.read_bytes()) for p in second]


def test_what_was_made_from_a_result_that_comes_back_otherwise_is_computed_again(run, study_file):
    """A search that ends by the clock finds other prompts the second time; images of the first ones must not stand beside them."""
    stage, key = shard_of(run, "attack:embedding_pgd@erased")
    folder = run.store.path(stage, key)
    files = digests.read(folder)
    files["adversarial.parquet"]["sha256"] = "0" * 64  # as if the prompts had been others
    write_json(folder / digests.SEAL, {"version": 1, "files": files, "digest": digest(files)})

    def stop(node, done, of, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # stopped in between: nothing is forgotten
        workbench.run(study_file, run.folder, watcher=execute.Watcher(node=stop, warning=lambda sentence: None))
    _, computed, (sentence,) = again(study_file, run)
    name = "embedding_pgd@erased"
    derived = {f"{stage}:{v}:{n}" for stage in ("generate", "detect") for v in ("erased", "pruned") for n in (name, f"{name}~control")}
    derived |= {f"record:{v}:{n}" for v in ("base", "erased", "pruned") for n in (name, f"{name}~control")}
    assert computed == {f"attack:{name}", "measure"} | derived
    assert "results that were made from it were set aside too" in sentence and verify(run.folder)["whole"]


def test_a_dry_run_counts_what_is_visibly_damaged_as_missing_and_moves_nothing(run, study_file):
    stage, key = shard_of(run, "record:erased:target")
    emptied(run.store.path(stage, key))
    assert cost.estimate(*execute.prepare(study_file, run.folder)).nodes == 1
    assert run.store.path(stage, key).is_dir()


def without_seals(folder):
    """The run as a version of the workbench without seals left it."""
    for path in folder.glob(f"nodes/*/*/{digests.SEAL}"):
        path.unlink()
    manifest = read_json(folder / "manifest.json")
    del manifest["digests"]
    write_json(folder / "manifest.json", manifest)


def test_a_run_of_an_earlier_version_is_read_unchecked_and_sealed_by_the_next_run(run, finished, study_file):
    without_seals(run.folder)
    found = verify(run.folder)
    assert found["whole"] and found["unsealed"] == found["results"] > 50
    assert run.store.result(*shard_of(run, "record:erased:target")).is_dir()
    resumed, computed, said = again(study_file, run)
    assert computed == set() and said == [] and tables_of(resumed) == tables_of(finished)
    found = verify(run.folder)
    assert found["whole"] and found["unsealed"] == 0
    (run.store.path(*shard_of(run, "record:erased:target")) / digests.SEAL).unlink()
    (fault,) = verify(run.folder)["damaged"]
    assert fault["path"].endswith(digests.SEAL)


def test_of_an_earlier_version_what_cannot_be_read_is_computed_again(run, finished, study_file):
    without_seals(run.folder)
    damages = {
        "record:base:target": ("target.safetensors", b"\x08"),
        "detect:base:target": ("detections.parquet", b"text"),
        "measure": ("tables.json", b"{"),
    }
    for node, (file, content) in damages.items():
        (run.store.path(*shard_of(run, node)) / file).write_bytes(content)
    (run.store.path(*shard_of(run, "record:erased:target")) / "target.safetensors").unlink()
    with pytest.raises(DamagedResult, match="target.safetensors is damaged.*set aside.*run the same command again"):
        again(study_file, run)  # without a seal nobody knows that the file is missing, until it is read
    resumed, computed, said = again(study_file, run)
    assert computed == {"record:erased:target", "measure"} and said == [] and tables_of(resumed) == tables_of(finished)
    assert {path.name for path in (run.folder / "set-aside").iterdir()} == {"record", "detect", "measure"}


def test_whoever_reads_outside_a_run_is_told_and_nothing_is_moved(run):
    stage, key = shard_of(run, "record:erased:target")
    run.store.result(stage, key)
    flip(run.store.path(stage, key) / "target.safetensors")
    with pytest.raises(DamagedResult, match="target.safetensors is damaged.*Running the study again.*workbench run tiny"):
        Store(run.folder).result(stage, key)
    with pytest.raises(DamagedResult, match="target.safetensors is damaged"):
        Store(run.folder).file(stage, key, "target.safetensors")
    assert Store(run.folder).file(stage, key, "reference.safetensors").is_file() and Store(run.folder).has(stage, key)


def test_a_file_is_read_for_its_digest_once_per_process(run, monkeypatch):
    stage, key = shard_of(run, "generate:base:target")
    read = []
    monkeypatch.setattr(digests, "_known", {})
    monkeypatch.setattr(digests, "file_digest", lambda path: read.append(path) or file_digest(path))
    for _ in range(3):
        Store(run.folder).result(stage, key)
    assert len(read) == len(digests.read(run.store.path(stage, key)))


def test_results_are_taken_from_a_damaged_run_as_far_as_they_are_whole_and_it_is_left_alone(run, finished, study_file, tmp_path):
    stage, key = shard_of(run, "record:erased:target")
    flip(run.store.path(stage, key) / "target.safetensors")
    for name in ("manifest.json", "study.json", "status.json"):
        (run.folder / name).write_text("{")
    (run.folder / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match=f"manifest.json is damaged.*another folder with --take-from {run.folder}"):
        Store(run.folder).manifest()
    with pytest.raises(RunError, match="nothing in it is touched.*--take-from"):
        workbench.run(study_file, run.folder)
    before = {path: path.stat().st_mtime_ns for path in (run.folder, *run.folder.rglob("*"))}
    computed, said = [], []
    watcher = execute.Watcher(node=lambda node, done, of, note="": computed.append(node.id), warning=said.append)
    resumed = workbench.run(study_file, tmp_path / "new", watcher=watcher, others=[run.folder])
    assert set(computed) == {"record:erased:target"} and tables_of(resumed) == tables_of(finished)
    assert len(said) == 1 and "damaged and was not taken" in said[0]
    assert {path: path.stat().st_mtime_ns for path in (run.folder, *run.folder.rglob("*"))} == before


MANIFESTS = [None, "", '{"layout": 1, "nod', "[]", '{"layout": 1, "nodes": null}', '{"layout": 1, "nodes": [null]}', "[" * 5000]


def test_a_missing_or_damaged_manifest_is_made_anew_by_running_again(run, finished, study_file):
    before = {node["id"]: node["seconds"] for node in finished.store.manifest()["nodes"]}
    path = run.folder / "manifest.json"
    for content in MANIFESTS:
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(RunError, match="manifest.json is damaged.*Running the study again writes it anew.*workbench run tiny"):
            Store(run.folder).manifest()
        assert execute.open_run(run.folder).document["verdict"]  # the report can still be read
        Store(run.folder).look()  # running again is not refused
    resumed, computed, _ = again(study_file, run)
    assert computed == set() and tables_of(resumed) == tables_of(finished)
    after = {node["id"]: node["seconds"] for node in resumed.store.manifest()["nodes"]}
    assert all(node["state"] == "done" for node in resumed.store.manifest()["nodes"])
    measured = [name for name, seconds in before.items() if seconds]
    assert all(after[name] == pytest.approx(before[name], abs=0.2) for name in measured)  # from the log


def test_without_manifest_and_study_a_folder_of_nothing_but_a_run_is_still_one(run):
    for name in ("manifest.json", "study.json"):
        (run.folder / name).write_text("{")
    Store(run.folder).look()


@pytest.mark.parametrize("content", [b"\x80", b"[]", b"null", b'{"pid": "x"}', b'{"state": 3}', b'{"done": 1e999}', b'{"of": true}'])
def test_a_damaged_status_is_passed_over_with_a_word(run, content):
    (run.folder / "status.json").write_bytes(content)
    assert Store(run.folder).status()[0] == {} and "status.json is damaged" in Store(run.folder).status()[1]
    (fault,) = verify(run.folder)["damaged"]
    assert fault["path"] == "status.json" and Store(run.folder).command().startswith("workbench run tiny")


def test_verify_names_what_is_damaged_and_the_command_it_gives_mends_it(run, finished, study_file):
    assert verify(run.folder) == {
        "run": "r",
        "whole": True,
        "results": len(run.store.results()),
        "unsealed": 0,
        "damaged": [],
        "again": "workbench run tiny",
    }
    names = {"study.json", "status.json", "report/report.html", "report/neurons.parquet", "report/tables/rates.csv"}
    for name in names:
        cut(run.folder / name)
    picture = next((run.folder / "report" / "images").iterdir())
    picture.unlink()
    stage, key = shard_of(run, "measure")
    shutil.rmtree(run.store.path(stage, key))
    named = [row["path"] for row in verify(run.folder)["damaged"]]
    assert sorted(named) == sorted({*names, f"report/images/{picture.name}", f"nodes/{stage}/{key}"})
    for name in ("manifest.json", "report/report.json", "report/manifest.json"):
        cut(run.folder / name)
    named = {row["path"] for row in verify(run.folder)["damaged"]}
    assert {"manifest.json", "report/report.json", "report/manifest.json"} <= named
    resumed, _, _ = again(study_file, run)
    assert verify(run.folder)["whole"] and tables_of(resumed) == tables_of(finished)
    shutil.rmtree(run.folder / "report")
    assert [row["path"] for row in verify(run.folder)["damaged"]] == ["report/report.json"]


def test_verify_says_of_a_damaged_result_that_no_node_needs_that_it_may_be_removed(run):
    stage, key = shard_of(run, "record:erased:target")
    folder = shutil.copytree(run.store.path(stage, key), run.store.path(stage, "0123456789abcdef01234567"))
    flip(folder / "target.safetensors")
    run.store.path(stage, ".0123456789abcdef01234567.attack.search").write_bytes(SEARCH)
    detector = run.folder / "answers" / "d"
    detector.mkdir(parents=True)
    (detector / "a.parquet").write_text("x")
    found = {row["path"]: row["why"] for row in verify(run.folder)["damaged"]}
    assert len(found) == 3 and "answers/d/a.parquet" in found
    assert sum("does not need it: remove it" in why for why in found.values()) == 2


def test_a_run_that_is_stopped_while_it_seals_calls_nothing_damaged(run, finished, study_file, monkeypatch):
    without_seals(run.folder)
    sealed = []

    def seal(folder):
        if len(sealed) == 5:
            raise KeyboardInterrupt
        sealed.append(folder)
        return given(folder)

    given = digests.seal
    monkeypatch.setattr(digests, "seal", seal)
    with pytest.raises(KeyboardInterrupt):
        again(study_file, run)
    monkeypatch.undo()
    found = verify(run.folder)
    assert found["whole"] and found["unsealed"] == found["results"] - 5


@pytest.fixture
def store(tmp_path):
    (tmp_path / "nodes" / "attack").mkdir(parents=True)
    store = Store(tmp_path)
    store.said = []
    store.warn = store.said.append
    return store


STATE = {"iteration": 3, "log": [(1, 2.5)], "searcher": {"embedding": torch.arange(6.0).reshape(2, 3)}}
SEARCH_DAMAGES = {
    "text": lambda content: b"garbage",
    "nothing": lambda content: b"",
    "a flipped bit": lambda content: content[:-200] + bytes([content[-200] ^ 1]) + content[-199:],
    "cut short": lambda content: content[:-30],
    "head alone": lambda content: SEARCH,
    "another digest": lambda content: content[: len(SEARCH)] + b"0" * 64 + content[len(SEARCH) + 64 :],
    "a pickle that would run code": lambda content: b"cos\nsystem\n(S'touch owned'\ntR.",
}


def test_a_search_goes_on_from_what_it_had_kept_and_from_what_an_earlier_version_kept(store):
    store.keep_search("attack", "k", "attack", STATE)
    found = store.kept_search("attack", "k", "attack")
    assert found["iteration"] == 3 and torch.equal(found["searcher"]["embedding"], STATE["searcher"]["embedding"])
    torch.save(STATE, store.path("attack", ".k.attack.search"))
    assert store.kept_search("attack", "k", "attack")["log"] == [(1, 2.5)]
    assert store.kept_search("attack", "k", "control") is None and store.said == []


@pytest.mark.parametrize("damage", SEARCH_DAMAGES)
def test_a_damaged_search_is_set_aside_and_starts_anew_with_a_word(store, damage):
    store.keep_search("attack", "k", "attack", STATE)
    path = store.path("attack", ".k.attack.search")
    path.write_bytes(SEARCH_DAMAGES[damage](path.read_bytes()))
    assert store.kept_search("attack", "k", "attack") is None
    assert not path.exists() and (store.folder / "set-aside" / "attack" / "k.attack.search").is_file()
    (sentence,) = store.said
    assert "search attack/k had reached is damaged" in sentence and "starts anew" in sentence and "weights_only" not in sentence


def test_headers_of_recordings_are_in_order(run):
    content = (run.store.path(*shard_of(run, "record:erased:target")) / "target.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == sorted(header["__metadata__"]) and len(header["__metadata__"]) >= 2
