"""The walk of full size: its builder makes the published architectures, and its study is one that the workbench plans."""

import gzip
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from experiments.full_size import measured, models, run, tables
from workbench.execution.execute import prepare
from workbench.models import load, text
from workbench.study import imports
from workbench.study.scaffold import scaffold
from workbench.study.study import load_study

# of the published models
SIZES = {
    "sd14": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sdxl": {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
}
WORDS = ("church", "barn", "castle", "lighthouse", "white", "river", "night", "garden", "bridge", "mountain")


@pytest.fixture(scope="module")
def merges(tmp_path_factory):
    """A file of merges that make each of WORDS one token."""
    lines = []
    for word in WORDS:
        found, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for letter in rest:
            lines.append(f"{found} {letter}")
            found += letter
    path = tmp_path_factory.mktemp("words") / models.MERGES
    path.write_bytes(gzip.compress("\n".join(["#version", *dict.fromkeys(lines), ""]).encode()))
    return path


@pytest.fixture(scope="module", params=sorted(models.BASES))
def built(request, merges, tmp_path_factory):
    """(kind, folder of the narrow model)."""
    folder = tmp_path_factory.mktemp("models") / request.param
    models.build(request.param, 8, merges, folder, narrow=True)
    return request.param, folder


def full(kind):
    """{part: module without memory}, with the weights that the real size has."""
    words = SimpleNamespace(__len__=None, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407)
    words = type("Words", (), vars(words) | {"__len__": lambda self: 49408})()
    with torch.device("meta"):
        found = {
            "unet": UNet2DConditionModel(**models.unet_config(kind, 64)),
            "vae": AutoencoderKL(**models.vae_config(kind, 64)),
            "text_encoder": CLIPTextModel(models.text_config(768, 12, words, "quick_gelu")),
        }
        if kind == "sdxl":
            found["text_encoder_2"] = CLIPTextModelWithProjection(models.text_config(1280, 32, words, "gelu"))
    return found


def test_the_full_models_have_as_many_parameters_as_the_published_ones():
    for kind, expected in SIZES.items():
        assert {part: sum(one.numel() for one in module.parameters()) for part, module in full(kind).items()} == expected


def test_the_narrow_model_has_every_layer_of_the_full_one_and_samples(built):
    kind, folder = built
    model = load.load(str(folder))
    for part, module in full(kind).items():
        assert set(dict(model.modules[part].named_parameters())) == set(dict(module.named_parameters()))
    assert sum(one.numel() for one in model.unet.parameters()) < SIZES[kind]["unet"] / 50
    assert len(model.new_scheduler(50).timesteps) == {"sd14": 51, "sdxl": 50}[kind]
    assert model.zero_uncond == (kind == "sdxl") and model.vae_scale == 8
    predicted = model.predict(torch.zeros(1, *model.latent_shape), torch.tensor(500), text.encode(model, ["a church"]))
    assert predicted.isfinite().all()


def test_files_are_in_half_precision_and_counted_from_their_headers(built):
    kind, folder = built
    pipeline = load.pipeline(str(folder), torch.float16)
    assert {one.dtype for one in pipeline.unet.parameters()} == {torch.float16}
    counted = tables.n_parameters(folder)
    assert set(counted) == set(SIZES[kind]) and counted["unet"] == sum(one.numel() for one in pipeline.unet.parameters())


def test_the_tokenizer_is_clips_way_of_cutting_words(merges):
    words = models.tokenizer(merges)
    ids = words("A church, é").input_ids
    assert words.convert_ids_to_tokens(ids) == [models.START, "a</w>", "church</w>", ",</w>", "Ã", "©</w>", models.END]
    assert words.get_vocab()["!"] == 0 and words.get_vocab()["!</w>"] == 256 and words.pad_token == models.END
    assert models.tokenizer(merges, pad="!").pad_token_id == 0 and len(set(models.letters())) == 256


def test_the_study_of_each_walk_is_planned_on_prompts_of_the_published_columns(built, merges, tmp_path):
    kind, folder = built
    models.classifier(tmp_path / "models" / "resnet-50")
    source = tmp_path / "church.csv"
    source.write_text("\n".join([run.COLUMNS, *(f'{i},"{prompt}",{i},7.5' for i, prompt in enumerate(run.PROMPTS))]) + "\n")
    for name, words in run.LISTS.items():
        given = dict(zip(words[::2], words[1::2], strict=True))
        found = imports.swapped(imports.recognise(source), source, [given["--swap"]] if "--swap" in given else [], given.get("--expect"))
        imports.write(found, source, tmp_path / "prompts" / f"sd14-church-{name}", "static")
    study, *_ = scaffold("full-size", run.STUDY, tmp_path)
    study.write_text(run.without_far(study.read_text()))
    (tmp_path / models.BASES[kind]).parent.mkdir(parents=True)
    (tmp_path / models.BASES[kind]).symlink_to(folder)
    plan, workspace = prepare(load_study(study).with_values(run.CHANGES[kind]), tmp_path / "run")
    assert len(plan.calls) == 2 and len(workspace.units) == len(run.PROMPTS)
    assert {"erase", "attack", "generate", "record", "detect", "measure", "report"} <= {node.stage for node in plan.nodes}
    assert str(workspace.model.dtype) == f"torch.{run.DTYPES[kind]}"


def test_a_commands_memory_is_told_by_node(tmp_path):
    log, said = tmp_path / "run.log", tmp_path / "said.log"
    log.write_text("erase:old 1/1 3.0 s\n")
    code = f"""
import time
def done(node):
    open({str(log)!r}, "a").write(node + " 1/1 1.0 s\\n"); time.sleep(1.2)
time.sleep(0.6); done("score"); block = bytearray(300 * 2**20); block[::4096] = b"x" * len(block[::4096]); time.sleep(1.2)
done("erase:erased"); print("ended"); raise SystemExit(3)
"""
    found = measured.run([sys.executable, "-c", code], said, log)
    assert found["exit"] == 3 and said.read_text() == "ended\n" and list(found["nodes"]) == ["score", "erase:erased"]
    assert found["nodes"]["erase:erased"]["anonymous"] > 300 * 2**20 > found["nodes"]["score"]["resident"]
    assert found["resident"] > 300 * 2**20 and found["seconds"] > 3


def test_what_a_block_takes_is_told():
    with measured.watching() as found:
        block = torch.ones(50 * 2**20)
        del block
    assert found["most"] - found["before"] > 150 * 2**20 and found["most"] >= found["after"]


def test_the_document_says_what_was_done(tmp_path):
    (tmp_path / "nodes" / "erase" / "a").mkdir(parents=True)
    (tmp_path / "nodes" / "erase" / "a" / "weights.safetensors").write_bytes(b"x" * 2**20)
    memory = {"resident": 12 * tables.GIB, "anonymous": 10 * tables.GIB}
    steps = [
        {"step": "model", "exit": 0, "seconds": 60.0, "nodes": {}} | memory,
        {"step": "run", "exit": -15, "seconds": 9.0, "nodes": {}} | memory,
        {"step": "run", "exit": 0, "seconds": 9.0, "nodes": {"erase:erased": memory}} | memory,
    ]
    nodes = [
        {"stage": "erase", "state": "done", "seconds": 7.0},
        {"stage": "report", "state": "waiting", "seconds": None},
    ]
    copied = {"weights": 2 * tables.GIB, "before": 0, "most": 3 * tables.GIB, "after": 0}
    one = {"kind": "sd14", "size": 32, "dtype": "float32", "steps": steps, "nodes": nodes, "changes": ["sampling.steps=2"]}
    one |= {"parameters": SIZES["sd14"], "copies": {"load": copied, "save": copied}, "report": {"report.html": 2**20}}
    one |= {"disk": {"base model": 2 * tables.GIB} | tables.disk_by_stage(tmp_path)} | tables.surroundings()
    said = tables.document([json.loads(json.dumps(one))])
    assert "| `erase` | 1 of 1 | 7 | 12.00 | 10.00 | 0.00 |" in said and "| model |  | 60 |" in said
    assert "The study ran to its report: 1 of 2 nodes, in 2 starts." in said and "--xl" not in said
    assert "(2.00 GiB) and 4.00 times the weights it trains" in said and "| 2.00 | 0.00 | 3.00 | 1.50 |" in said
