"""Masks of other tools: ConceptPrune's folders through a reader that imports nothing, SalUn's saliency masks."""

import pickle
import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests import single_file, tiny
from workbench.cli import main
from workbench.errors import ModelError, WorkbenchError
from workbench.models import foreign_masks, load, masks
from workbench.registry import method

READS = ".ff.net.2.weight"


def layers(model, end=READS):
    """Names of the layers of a kind as ConceptPrune numbers them: sorted."""
    modules = sorted(name.removesuffix(".weight") for name, _ in model.unet.named_parameters() if name.endswith(end))
    return [f"unet.{module}.weight" for module in modules]


def folder_of(path, model, n_calls=4, end=READS, protocol=None, share=0.1):
    """A folder as ConceptPrune writes it; returns {(call, layer): dense array of 0 and 1}."""
    path.mkdir()
    rng, made = np.random.default_rng(0), {}
    for layer, name in enumerate(layers(model, end)):
        for call in range(n_calls):
            made[call, layer] = (rng.random(tuple(model.parameters()[name].shape)) < share).astype(int)
            content = pickle.dumps(scipy.sparse.csr_matrix(made[call, layer]), protocol=protocol)
            (path / f"timestep_{call}_layer_{layer}.pkl").write_bytes(content)
    return made


def united(made, layer, first, ratio):
    """What more than a share of the first calls name, entry by entry."""
    total = np.zeros_like(made[0, layer])
    for row in range(total.shape[0]):
        for column in range(total.shape[1]):
            total[row, column] = sum(made[call, layer][row, column] for call in range(first))
    return total > ratio * first


@pytest.mark.parametrize(("first", "ratio"), [(1, 0.0), (3, 0.0), (4, 0.0), (4, 0.3), (4, 0.6)])
def test_a_folder_of_conceptprune_is_the_union_over_its_first_calls(still, tmp_path, first, ratio):
    made = folder_of(tmp_path / "masks", still, share=0.4)
    found, about = foreign_masks.read(tmp_path / "masks", still, first, ratio)
    names = layers(still)
    assert list(found) == names and about == {"made": "ConceptPrune's masks", "calls": first, "select_ratio": ratio, "layers": "reads"}
    for layer, name in enumerate(names):
        assert np.array_equal(found[name].numpy(), united(made, layer, first, ratio))
    one = method("erasers", "mask_from_file")
    assert all(
        torch.equal(found[name], value)
        for name, value in one.call(still, [], one.parameters(file=str(tmp_path / "masks"), calls=first, select_ratio=ratio)).items()
    )


@drawn(
    st.integers(1, 6), st.integers(1, 9), st.floats(0, 1), st.sampled_from([2, 3, 4, 5]), st.sampled_from(["i8", "i4", "b1", "f8", "u1"])
)
@settings(max_examples=40, deadline=None)
def test_any_sparse_matrix_of_zeros_and_ones_comes_back(tmp_path_factory, n_rows, n_columns, share, protocol, kind):
    dense = (np.random.default_rng(n_rows * 10 + n_columns).random((n_rows, n_columns)) < share).astype(kind)
    path = tmp_path_factory.getbasetemp() / "one.pkl"
    for make in (scipy.sparse.csr_matrix, scipy.sparse.csr_array):
        path.write_bytes(pickle.dumps(make(dense), protocol=protocol))
        found = foreign_masks.sparse(path)
        back = np.zeros(found.shape, bool)
        back[found.rows, found.columns] = True
        assert found.shape == dense.shape and np.array_equal(back, dense != 0)


def test_masks_of_an_older_scipy_are_read(tmp_path):
    content = pickle.dumps(scipy.sparse.csr_matrix(np.eye(3, dtype=int)), protocol=2)
    old = content.replace(b"scipy.sparse._csr", b"scipy.sparse.csr").replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "old.pkl").write_bytes(old)
    assert foreign_masks.sparse(tmp_path / "old.pkl").rows.tolist() == [0, 1, 2]


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


EVIL = {
    "print": lambda: pickle.dumps(Evil(print, "run")),
    "eval": lambda: pickle.dumps(Evil(eval, "1")),
    "in the state": lambda: pickle.dumps({"_shape": Evil(print, "run")}),
    "numpy beside": lambda: pickle.dumps(Evil(np.load, "x")),
    "scipy beside": lambda: pickle.dumps(Evil(scipy.sparse.load_npz, "x")),
    "codecs": lambda: pickle.dumps(Evil(__import__("_codecs").decode, b"a", "hex")),
    "a dotted name": lambda: b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__base__\x93.",
    "an outside object": lambda: b"\x80\x04\x8c\x01x\x51.",
    "an extension": lambda: b"\x80\x04\x82\x01.",
    "a state for a word": lambda: b"\x80\x02cscipy.sparse._csr\ncsr_matrix\n}q\x00X\x01\x00\x00\x00aK\x01sb.",
}


@pytest.mark.parametrize("kind", EVIL)
def test_a_pickle_that_asks_for_more_than_a_matrix_runs_nothing(tmp_path, kind, capsys, monkeypatch):
    (tmp_path / "timestep_0_layer_0.pkl").write_bytes(EVIL[kind]())
    imported = set(sys.modules)
    with pytest.raises(ModelError, match="is no mask|is damaged"):
        foreign_masks.sparse(tmp_path / "timestep_0_layer_0.pkl")
    assert capsys.readouterr().out == "" and not hasattr(foreign_masks._Matrix, "state")
    assert not {name for name in set(sys.modules) - imported if "encodings" not in name}
    assert foreign_masks.kind(tmp_path) == "ConceptPrune"


def broken(**changed):
    """A csr pickle with other fields than its own."""
    matrix = scipy.sparse.csr_matrix(np.eye(3, dtype=int))
    matrix.__dict__.update(changed)
    return pickle.dumps(matrix)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: broken(indices=np.array([0, 1, 7], np.int32)), "rows and columns do not fit"),
        (lambda: broken(indices=np.array([0, 1, -1], np.int32)), "rows and columns do not fit"),
        (lambda: broken(indptr=np.array([0, 2, 1, 3], np.int32)), "rows and columns do not fit"),
        (lambda: broken(indptr=np.array([0, 3], np.int32)), "rows and columns do not fit"),
        (lambda: broken(indices=np.array([0.0, 1.0, 2.0])), "no whole numbers"),
        (lambda: broken(data=np.array([1.0, 0.5, 1.0])), "other numbers than 0 and 1"),
        (lambda: broken(data=np.array([1, 2, 1])), "other numbers than 0 and 1"),
        (lambda: broken(data=np.array([1.0, np.nan, 1.0])), "other numbers than 0 and 1"),
        (lambda: broken(data=np.array([None, 1, 1])), "is no mask|is damaged"),
        (lambda: broken(_shape=(3, 10**12)), "its shape is"),
        (lambda: broken(_shape=(-3, 3)), "its shape is"),
        (lambda: broken(_shape=(3,)), "its shape is"),
        (lambda: broken(_shape="ab"), "is no mask"),
        (lambda: pickle.dumps(scipy.sparse.csc_matrix(np.eye(3))), r"asks for scipy.sparse._csc.csc_matrix"),
        (lambda: pickle.dumps(np.eye(3, dtype=int)), "it holds something else"),
        (lambda: pickle.dumps([1, 2]), "it holds something else"),
        (lambda: broken()[:-20], "is damaged"),
        (lambda: b"\x80\x04\x95", "is damaged"),
        (lambda: b"", "is an empty file"),
        (lambda: b"version https://git-lfs.github.com/spec/v1\nsize 4\n", "is a Git LFS pointer"),
    ],
)
def test_what_is_no_sparse_matrix_of_zeros_and_ones_is_told(tmp_path, content, message):
    (tmp_path / "x.pkl").write_bytes(content())
    with pytest.raises(ModelError, match=message):
        foreign_masks.sparse(tmp_path / "x.pkl")


def test_a_few_bytes_cannot_take_all_memory(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04K\x01r\xff\xff\xff\x7f.")  # memo number 2^31 - 1
    with pytest.raises(ModelError, match="it holds something else"):
        foreign_masks.sparse(tmp_path / "x.pkl")
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"ab.")
    with pytest.raises(ModelError, match="is damaged"):
        foreign_masks.sparse(tmp_path / "x.pkl")


@drawn(st.data())
@settings(max_examples=60, deadline=None)
def test_changed_bytes_are_read_or_told(tmp_path_factory, data):
    content = bytearray(pickle.dumps(scipy.sparse.csr_matrix(np.eye(4, dtype=int)), protocol=data.draw(st.sampled_from([2, 4, 5]))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.pkl"
    path.write_bytes(content)
    try:
        found = foreign_masks.sparse(path)
    except ModelError:
        return
    assert len(found.rows) == len(found.columns) and (found.columns < found.shape[1]).all()


def test_missing_calls_and_layers_are_named(still, tmp_path):
    folder_of(tmp_path / "masks", still, n_calls=2)
    with pytest.raises(ModelError, match="timestep_2_layer_0.pkl is missing. It has masks of 2 calls: ask for at most so many"):
        foreign_masks.read(tmp_path / "masks", still, 3)
    (tmp_path / "masks" / "timestep_1_layer_2.pkl").unlink()
    with pytest.raises(ModelError, match="timestep_1_layer_2.pkl is missing. Get the folder whole"):
        foreign_masks.read(tmp_path / "masks", still, 2)
    for path in (tmp_path / "masks").glob("*_layer_2.pkl"):
        path.unlink()
    with pytest.raises(ModelError, match="timestep_0_layer_2.pkl is missing"):
        foreign_masks.read(tmp_path / "masks", still, 1)
    with pytest.raises(ModelError, match="is one mask of one call. Give the folder"):
        foreign_masks.calls(tmp_path / "masks" / "timestep_0_layer_0.pkl")


def test_the_kind_of_layers_follows_from_their_shapes_or_is_asked_for(still, tmp_path):
    folder_of(tmp_path / "feeds", still, 1, ".ff.net.0.proj.weight")
    assert foreign_masks.read(tmp_path / "feeds", still, 1)[1]["layers"] == "feeds"
    folder_of(tmp_path / "value", still, 1, ".attn2.to_v.weight")
    with pytest.raises(ModelError, match="may be of the layers key or value, which have the same shapes. Say which, as `layers`"):
        foreign_masks.read(tmp_path / "value", still, 1)
    found, _ = foreign_masks.read(tmp_path / "value", still, 1, layers="value")
    assert list(found) == layers(still, ".attn2.to_v.weight")
    with pytest.raises(ModelError, match='are not of the layers "reads" of "tiny".*Layers that fit: key, value'):
        foreign_masks.read(tmp_path / "value", still, 1, layers="reads")
    (tmp_path / "feeds" / "timestep_0_layer_0.pkl").write_bytes(pickle.dumps(scipy.sparse.csr_matrix(np.eye(3, dtype=int))))
    with pytest.raises(ModelError, match="fit no kind of layers.*The first is 3 x 3.*made for another model"):
        foreign_masks.read(tmp_path / "feeds", still, 1)


def test_a_folder_needs_the_number_of_calls_and_a_file_does_not_take_it(still, tmp_path):
    one = method("erasers", "mask_from_file")
    folder_of(tmp_path / "masks", still, 2)
    masks.save(tmp_path / "own.safetensors", {"unet.conv_in.bias": torch.arange(16) < 4}, {})
    for parameters, message in (
        ({"file": "masks"}, r"Say how many of the first calls count, e.g. calls = 10, as published \(9 for nudity\)"),
        ({"file": "own.safetensors", "calls": 3}, "calls, select_ratio and layers mean nothing for it"),
        ({"file": "own.safetensors", "select_ratio": 0.5}, "mean nothing for it"),
    ):
        for call in (lambda p: one.call(still, [], p, folder=tmp_path), lambda p: one.module.check(p, still, tmp_path)):
            with pytest.raises(ModelError, match=message):
                call(one.parameters(**parameters))
    one.module.check(one.parameters(file="masks", calls=2), still, tmp_path)
    assert one.parameters(file="m").model_dump() == {"file": "m", "any_base": False}
    before = one.module.files(one.parameters(file="masks"), tmp_path)
    (tmp_path / "masks" / "timestep_0_layer_0.pkl").write_bytes(b"other")
    assert before != one.module.files(one.parameters(file="masks"), tmp_path)


def test_a_mask_for_another_base_or_of_nothing_is_told_before_it_is_cut(still, tmp_path):
    one = method("erasers", "mask_from_file")
    masks.save(tmp_path / "m.safetensors", {"unet.conv_in.bias": torch.arange(16) < 4}, {"base": "other", "base_digest": "a" * 64})
    one.module.check(one.parameters(file="m.safetensors"), still, tmp_path, base_digest="a" * 64)
    with pytest.raises(WorkbenchError, match="made for the weights of"):
        one.module.check(one.parameters(file="m.safetensors"), still, tmp_path, base_digest="b" * 64)
    masks.save(tmp_path / "none.safetensors", {"unet.conv_in.bias": torch.zeros(16, dtype=torch.bool)}, {})
    with pytest.raises(ModelError, match="names no weight"):
        one.module.check(one.parameters(file="none.safetensors"), still, tmp_path)


@pytest.mark.parametrize("form", ["vision-unlearning", "SalUn, CompVis names", "SalUn, floats"])
def test_a_saliency_mask_is_read_under_the_models_names_and_never_cut_unasked(still, tmp_path, form):
    pipe = tiny.pipeline()
    marked = {name: torch.rand(p.shape, generator=torch.Generator().manual_seed(1)) < 0.5 for name, p in pipe.unet.named_parameters()}
    path = tmp_path / "salun_mask.safetensors"
    if form == "vision-unlearning":
        save_file({name: mask.to(torch.uint8) for name, mask in marked.items()}, path)
    else:
        with torch.no_grad():
            for name, parameter in pipe.unet.named_parameters():
                parameter.copy_(marked[name])
        named = single_file.unet(pipe.unet)
        path = tmp_path / "with_0.5.pt"
        torch.save({name: value.int() if "CompVis" in form else value.clone() for name, value in named.items()}, path)
    assert foreign_masks.kind(path) == "saliency"
    found, about = foreign_masks.read(path, still)
    assert about["marks"] == "trained" and found.keys() == {f"unet.{name}" for name in marked}
    assert all(torch.equal(found[f"unet.{name}"], mask) for name, mask in marked.items())
    one = method("erasers", "mask_from_file")
    with pytest.raises(ModelError, match=r"marks the weights that SalUn trained \(\d+ of them\), not weights to cut"):
        one.call(still, [], one.parameters(file=str(path)))


def test_what_is_no_saliency_mask_is_told(still, tmp_path):
    for content, message in (
        ({"conv_in.bias": torch.full((16,), 0.5)}, "is no mask: zeros and ones"),
        ({"conv_in.bias": torch.full((16,), float("nan"))}, "is no mask: zeros and ones"),
        ({"conv_in.bias": torch.ones(16).to_sparse()}, "is no mask: zeros and ones"),
        ({}, "is no mask"),
        ([1], "is no mask"),
        ({"conv_in.bias": torch.ones(3)}, "for another base than"),
        ({"other.bias": torch.ones(3)}, 'names 1 of 1 weights that "tiny" does not have, e.g. "other.bias"'),
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(ModelError, match=message):
            foreign_masks.read(tmp_path / "x.pt", still)


@pytest.fixture
def told(still, monkeypatch):
    """told(*arguments) -> output of `workbench mask`; raises what it raises."""
    monkeypatch.setattr(load, "load", lambda name, *more: still)

    def run(*arguments):
        done = CliRunner().invoke(main.app, ["mask", *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_mask_show_and_import_take_a_folder_of_conceptprune(told, still, tmp_path):
    made = folder_of(tmp_path / "masks", still, 3)
    output = told("show", tmp_path / "masks", "--calls", 2)
    n = sum(int(united(made, layer, 2, 0).sum()) for layer in range(4))
    assert "layer 0, 16 x 64" in output and f"{n} weights" in output and "the first 2 calls" in output.replace("\n", " ")
    assert "all 3 calls" in told("show", tmp_path / "masks").replace("\n", " ")
    out = tmp_path / "m.safetensors"
    assert f"{n} weights in 4 layers" in told("import", tmp_path / "masks", "--model", "tiny", "--calls", 2, "--out", out).replace(
        "\n", " "
    )
    found, about = masks.load(out)
    assert list(found) == layers(still) and about["calls"] == 2 and about["base"] == "tiny" and about["base_digest"]
    assert masks.compare(found, foreign_masks.read(tmp_path / "masks", still, 2)[0])[-1]["iou"] == 1
    for arguments, message in (
        (("import", tmp_path / "masks", "--model", "tiny", "--out", tmp_path / "n"), "Give how many of the first calls to use: --calls 10"),
        (("import", out, "--model", "tiny", "--out", tmp_path / "n"), "is neither a folder of ConceptPrune's masks nor a saliency mask"),
        (("import", tmp_path / "masks", "--model", "tiny", "--calls", 2, "--out", out), "nothing is replaced"),
        (("show", out, "--calls", 2), "are for folders of ConceptPrune's masks"),
        (("compare", tmp_path / "masks", out), "is a folder, no mask file.*workbench mask import"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            told(*arguments)


def test_mask_show_says_what_a_saliency_mask_marks(told, still, tmp_path):
    save_file({"conv_in.bias": (torch.arange(16) < 4).to(torch.uint8)}, tmp_path / "salun_mask.safetensors")
    said = "It marks the weights that were trained, not weights to prune."
    assert said in told("show", tmp_path / "salun_mask.safetensors").replace("\n", " ")
    out = tmp_path / "m.safetensors"
    assert said in told("import", tmp_path / "salun_mask.safetensors", "--model", "tiny", "--out", out).replace("\n", " ")
    assert said in told("show", out).replace("\n", " ")
    one = method("erasers", "mask_from_file")
    with pytest.raises(ModelError, match="not weights to cut"):
        one.module.check(one.parameters(file=str(out)), still)
    told("combine", out, out, "--how", "union", "--out", tmp_path / "cut.safetensors")
    one.module.check(one.parameters(file=str(tmp_path / "cut.safetensors")), still)


def test_inspect_sends_masks_where_they_are_read(still, tmp_path):
    from workbench.models import formats

    folder_of(tmp_path / "masks", still, 1)
    with pytest.raises(ModelError, match="holds ConceptPrune's masks, which say what is cut.*workbench mask show"):
        formats.read(tmp_path / "masks", still)
    with pytest.raises(ModelError, match="a sparse matrix of SciPy instead of weights.*workbench mask show"):
        formats.read(tmp_path / "masks" / "timestep_0_layer_0.pkl", still)
    whole = {name: torch.ones(p.shape, dtype=torch.uint8) for name, p in tiny.pipeline().unet.named_parameters()}
    save_file(whole, tmp_path / "salun_mask.safetensors")
    with pytest.raises(ModelError, match="208 of its 208 tensors cannot be weights.*A mask of SalUn says which weights were trained"):
        formats.check(formats.read(tmp_path / "salun_mask.safetensors", still), still)
