"""The guide docs/guides/own-detector.md is true: its file is found by its entry point, fits a study, and its examples run."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from workbench import registry
from workbench.errors import ModelError
from workbench.study.study import Study, load_study

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "own-detector.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The guide's file in a package of one's own, installed with the guide's entry point."""
    (tmp_path / "my_churches.py").write_text(blocks("python")[0])
    points = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
    about = tmp_path / "my_churches-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-churches\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in table.items()) for group, table in points.items()]
    (about / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    registry.methods.cache_clear()
    yield tmp_path
    registry.methods.cache_clear()
    sys.modules.pop("my_churches", None)


def weights(path, seed=0):
    """Weights of the guide's network in which a bright image is a church."""
    network = importlib.import_module("my_churches").network()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(0.0, 0.1)
        network[-1].weight[1] = 0
        network[-1].bias.copy_(torch.tensor([-3.0, 0.0]))
    save_file(network.state_dict(), path)
    return network


def test_the_file_of_the_guide_is_a_detector_found_by_its_entry_point(installed):
    network = weights(installed / "mine.safetensors")
    method = registry.method("detectors", "my_churches")
    assert method.help.startswith("My churches") and method.help.endswith(".")
    detector = method.call(method.parameters(weights="mine.safetensors", threshold=0.7))
    images = torch.cat([torch.full((2, 3, 16, 16), 0.95), torch.full((2, 3, 16, 16), 0.05)])
    found, score = detector.present(images, ["church"])
    assert found.tolist() == [True, True, False, False]
    assert torch.allclose(score, network(images * 2 - 1).softmax(1)[:, 0]) and detector.version.endswith(">= 0.7")
    assert detector.features(images).shape == (4, 64)
    images.requires_grad_(True)
    detector.network(images)[:, 0].sum().backward()
    assert images.grad[:2].abs().sum() > 0
    with pytest.raises(ModelError, match="missing"):
        method.call(method.parameters(weights="nothing.safetensors"))


def test_the_study_of_the_guide_is_a_study(installed):
    data = load_study("emoji-church").model_dump(mode="json", exclude_none=True)
    study = Study(**(data | tomllib.loads(blocks("toml")[1])))
    assert study.detectors.judge["method"] == "my_churches" and study.detectors.labels == ["church"]


def test_the_other_examples_of_the_guide_run(installed):
    weights(installed / "mine.safetensors")
    method = registry.method("detectors", "my_churches")
    torch.manual_seed(1)
    given = {
        "detector": method.call(method.parameters(weights="mine.safetensors")),
        "without": torch.rand(200, 3, 16, 16) * 0.6,
        "images": torch.rand(10, 3, 16, 16),
    }
    for block in blocks("python")[1:]:
        exec(block, given)
    false_positives = (given["detector"].probabilities(given["without"])[:, 0] > given["threshold"]).sum()
    assert false_positives == 2 and [row["threshold"] for row in given["rows"]] == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert given["answers"].misses == 10 and torch.equal(given["present"], given["score"] >= 0.5)


def test_the_guide_names_every_bundled_detector():
    assert set(re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE)) == set(registry.methods("detectors"))
