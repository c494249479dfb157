"""Prompt files in which a unit has several rows: how they are read, how sets pair, and what an attack from a file makes of them."""

import pytest

from workbench.errors import PromptError
from workbench.methods.attacks import Context, from_file
from workbench.study.prompts import paired, pairing, read_prompts


def table(folder, name, rows):
    """A set from lines `unit,prompt,seed`."""
    path = folder / f"{name}.csv"
    path.write_text("\n".join(["unit,prompt,seed", *rows]) + "\n")
    return read_prompts(path, name, "target")


@pytest.fixture
def targets(tmp_path):
    """Two units of three seeds, mixed."""
    return table(tmp_path, "target", ["a,owl,1", "b,cat,1", "a,owl,2", "b,cat,2", "a,owl,3", "b,cat,3"])


def met(targets, others):
    """[(unit, target's prompt and seed, other's prompt and seed)] of rows that pair, in the order of the targets."""
    first, second = paired([targets, others])
    rows = pairing(first, second)
    found = [(second.prompts[row], second.seeds[row]) for row in rows]
    assert [first.units[i] for i in range(len(first))] == [second.units[row] for row in rows] and len(set(rows)) == len(rows)
    return list(zip(first.units, zip(first.prompts, first.seeds, strict=True), found, strict=True))


def test_rows_of_a_unit_have_places_and_ids_of_their_own(targets):
    assert targets.table["place"].tolist() == [0, 0, 1, 1, 2, 2]
    assert targets.table["id"].tolist() == ["a", "b", "a#2", "b#2", "a#3", "b#3"]
    assert targets.rows(2, 4).keys == [("a", 1), ("b", 1)] and targets.picked([5, 0]).keys == [("b", 2), ("a", 0)]
    assert targets.from_plain(targets.to_plain()).keys == targets.keys


def test_one_row_per_unit_leaves_a_set_as_it_was(tmp_path):
    one = table(tmp_path, "one", ["b,owl,1", "a,cat,2"])
    assert list(one.table) == ["id", "unit", "prompt", "seed", "expect"] and one.keys == [("b", 0), ("a", 0)]
    other = table(tmp_path, "other", ["a,dog,1", "b,hen,9"])
    assert paired([one, other])[1] is other and met(one, other) == [("b", ("owl", 1), ("hen", 9)), ("a", ("cat", 2), ("dog", 1))]


def test_the_same_seeds_pair_by_seed_in_any_order_of_rows(targets, tmp_path):
    others = table(tmp_path, "reference", ["b,dog,3", "a,hen,2", "a,hen,3", "b,dog,1", "b,dog,2", "a,hen,1"])
    assert all(seed == own for _, (_, seed), (_, own) in met(targets, others))
    assert [prompt for *_, (prompt, _) in met(targets, others)] == ["hen", "dog"] * 3


def test_equal_seeds_within_a_unit_pair_in_their_order(tmp_path):
    first = table(tmp_path, "first", ["a,owl,7", "a,an owl,7", "a,the owl,8", "b,cat,7", "b,a cat,7", "b,the cat,8"])
    other = table(tmp_path, "other", ["a,the hen,8", "a,hen,7", "a,a hen,7", "b,dog,7", "b,the dog,8", "b,a dog,7"])
    words = [prompt for *_, (prompt, _) in met(first, other)]
    assert words == ["hen", "a hen", "the hen", "dog", "a dog", "the dog"]


def test_without_a_common_seed_rows_pair_in_their_order(targets, tmp_path):
    others = table(tmp_path, "reference", ["b,x,30", "b,y,20", "a,u,40", "a,v,50", "b,z,10", "a,w,60"])
    assert [prompt for *_, (prompt, _) in met(targets, others)] == ["u", "x", "v", "y", "w", "z"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,hen,1", "a,hen,2", "b,dog,1", "b,dog,2", "b,dog,3"], 'In the unit "a" the set "reference" has 2 prompts, "target" has 3'),
        (["a,hen,1", "a,hen,2", "a,hen,4", "b,dog,1", "b,dog,2", "b,dog,3"], "the seeds 1, 2, 3 and 1, 2, 4: some pair, others do not"),
        (["a,hen,1", "a,hen,2", "a,hen,3"], 'no prompt for 1 units of "target", e.g. "b"'),
        (["a,h,1", "a,h,2", "a,h,3", "b,d,1", "b,d,2", "b,d,3", "c,e,1"], '"target" has no prompt for 1 units of "reference", e.g. "c"'),
    ],
)
def test_sets_that_cannot_pair_say_why(targets, tmp_path, rows, message):
    with pytest.raises(PromptError, match=message):
        paired([targets, table(tmp_path, "reference", rows)])


def attacked(targets, folder, lines):
    """The prompts an attack from a file gives the targets."""
    (folder / "found.csv").write_text("\n".join(lines) + "\n")
    made = from_file.attack(None, targets, from_file.Parameters(file="found.csv"), Context([], folder=folder))
    assert made.keys == targets.keys and made.seeds == targets.seeds
    return made.prompts


def test_an_attack_from_a_file_serves_every_row_of_a_unit(targets, tmp_path):
    assert attacked(targets, tmp_path, ["unit,prompt", "b,B", "a,A"]) == ["A", "B"] * 3
    by_seed = [f"{unit},{unit}{seed},{seed}" for unit in "ab" for seed in (3, 1, 2)]
    assert attacked(targets, tmp_path, ["unit,prompt,seed", *by_seed]) == ["a1", "b1", "a2", "b2", "a3", "b3"]
    in_order = [f"{unit},{unit}{k}" for unit in "ab" for k in range(4)]
    assert attacked(targets, tmp_path, ["unit,prompt", *in_order]) == ["a0", "b0", "a1", "b1", "a2", "b2"]
    other_units = ["x,new owl,owl", "y,new cat,cat"]
    assert attacked(targets, tmp_path, ["unit,prompt,original", *other_units]) == ["new owl", "new cat"] * 3
    own = [f"{unit},{unit}{k},{word}" for unit, word in (("a", "owl"), ("b", "cat")) for k in range(3)]
    assert attacked(targets, tmp_path, ["unit,prompt,original", *own]) == ["a0", "b0", "a1", "b1", "a2", "b2"]
    with pytest.raises(PromptError, match='has 2 prompts for the unit "a", the target set has 3. Give one for all, or as many'):
        attacked(targets, tmp_path, ["unit,prompt", "a,A1", "a,A2", "b,B"])
