"""Choosing by agreement, and whether the choice is stable: a study whose base model is replaced by planted recordings."""

from types import SimpleNamespace

import numpy as np
import pandas
import pytest

import workbench
from workbench.analysis import selection
from workbench.errors import StatisticsError, StudyError
from workbench.execution import execute, neuron_choice
from workbench.execution.rows import choice
from workbench.execution.stages import ablate, cluster, score
from workbench.report import document
from workbench.report.content import Report
from workbench.report.sections.neuron_choice import sentence
from workbench.storage import digest, plain_json, read_table
from workbench.study.neuron_choice import Choose
from workbench.study.study import BASE

N_UNITS, N_TRUE, N_LOUD = 24, 12, 40
THREE = ["contrast", "welch_z", "auroc"]


def recordings(n_neurons, ff, effect=0.6, seed=0):
    """{set: (unit, 1, neuron)}: true neurons move a little in every unit, loud ones jump now and then, with the concept or without."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(np.flatnonzero(ff))
    true, loud = places[:N_TRUE], places[N_TRUE : N_TRUE + N_LOUD]
    own = rng.uniform(1, 2, n_neurons)
    sides = {}
    for name in ("target", "reference", "paraphrase", "paraphrase~control"):
        values = own + rng.normal(0, 0.2, (N_UNITS, n_neurons))
        values[:, true] += effect * (name in ("target", "paraphrase"))
        values[:, loud] += 30 * (rng.random((N_UNITS, N_LOUD)) < 0.15)
        sides[name] = np.abs(values)[:, None, :].astype(np.float32)
    return sides, true, loud


class Planted:
    """A study on the tiny model, of whose recordings nothing is real; two seeds or two names of the concept on request."""

    def __init__(self, folder, study_file, settings=(), names=("ink",), n_rows=1, **planted):
        folder.mkdir()
        units = [(f"u{i}", row) for i in range(N_UNITS) for row in range(n_rows)]
        for name, word in (("target", None), ("reference", "noto"), ("near", "fluent")):
            lines = [
                f"{u},an owl in {word or names[int(u[1:]) % len(names)]} style,{10 * int(u[1:]) + row},style:fluent" for u, row in units
            ]
            (folder / f"{name}.csv").write_text("unit,prompt,seed,expect\n" + "\n".join(lines) + "\n")
        (folder / "tiny.toml").write_text(study_file.read_text().replace('names = ["ink"]', f"names = {list(names)}"))
        values = ['prompts.units="column"', "record.calls=[0]", 'choose.compare=["z", "welch_z", "auroc"]', "choose.n_random=99", *settings]
        self.study = workbench.load_study(folder / "tiny.toml").with_values(values)
        self.workspace = execute.prepare(self.study, folder / "run")[1]
        self.ff = (self.workspace.neurons["site"] == "ff").to_numpy()
        sides, self.true, self.loud = recordings(len(self.ff), self.ff, **planted)
        self.workspace.gather = lambda *condition: [{"calls": [0], "timesteps": [401.0]}]
        self.workspace.prompt_set = _with_attacks(self.workspace)
        rows = np.repeat(np.arange(N_UNITS), n_rows)
        self.workspace.mean_abs = lambda variant, name, trajectory, quantity="mean_abs": sides[_attack(name)][rows] * (variant == BASE)

    def scored(self, folder):
        """The neuron table of the stage score."""
        folder.mkdir(exist_ok=True)
        score.run(self.workspace, self.workspace.plan.node("score"), None, folder)
        self.workspace.result = lambda node: folder
        return read_table(folder / "neurons.parquet")


def _attack(name):
    end = "~control" if name.endswith("~control") else ""
    return name if name in ("target", "reference") else f"paraphrase{end}"


def _with_attacks(workspace):
    read = workspace.prompt_set
    return lambda name: read("target") if workspace.plan.sets[name].attack else read(name)


@pytest.fixture
def planted(study_file, tmp_path):
    """planted(settings, ...) -> (Planted, neuron table of its stage score)."""
    made = []

    def make(*settings, **how):
        made.append(Planted(tmp_path / str(len(made)), study_file, settings, **how))
        return made[-1], made[-1].scored(tmp_path / f"score-{len(made)}")

    return make


def found(table, neurons):
    return int(table["in_concept"].to_numpy()[neurons].sum())


@pytest.mark.parametrize("how", [['choose.by="rank"'], ['choose.by="votes"', "choose.votes=2"], []])
def test_agreement_finds_the_planted_neurons_where_one_score_takes_loud_ones(planted, how):
    one, alone = planted("choose.share=0.05")
    several, together = planted("choose.share=0.05", f"choose.agree={THREE}", *how)
    assert one.ff.sum() * 0.05 >= N_TRUE
    assert found(alone, one.loud) > N_TRUE and found(together, several.loud) < found(alone, one.loud) / 2
    assert found(together, several.true) == N_TRUE > found(alone, one.true)
    assert not (together["in_concept"] & together["in_suppressed"]).any()


def test_everything_that_follows_uses_the_same_choice(planted):
    run, table = planted(f"choose.agree={THREE}", "choose.share=0.05", "cluster.share=0.2")
    choose, ff = run.study.choose, run.ff
    values = neuron_choice.on_half(choose, table, "a")
    assert list(values) == THREE
    ranks = selection.mean_rank(values, ff)
    assert np.allclose(table["agreement_a"][ff], 2 * ranks[ff] - 1) and table["agreement_b"][ff].notna().all()
    assert (neuron_choice.value(choose, table) == table["agreement_a"]).sum() == len(table)
    # the set is the head of the ranking that ablation and clusters go by, of those for which all scores speak
    speaks = ff & np.all([value > 0 for value in values.values()], axis=0)
    order = np.argsort(-np.where(speaks, ranks, -1), kind="stable")[: (table["in_concept"].to_numpy() & ff).sum()]
    assert set(order) == set(np.flatnonzero(table["in_concept"].to_numpy() & ff))
    concept = table[table["in_concept"] & ff]
    assert (concept["in_prune"] ^ concept["in_watch"]).all()
    assert concept[concept["in_prune"]]["agreement_a"].mean() == pytest.approx(concept[concept["in_watch"]]["agreement_a"].mean(), abs=0.05)
    node = SimpleNamespace(parameters={"ranking": "score"}, context={"choose": choose, "cluster": run.study.cluster})
    assert np.array_equal(ablate._ranking(run.workspace, node), table["agreement_a"], equal_nan=True)
    clustered = cluster.to_cluster(run.workspace, node)
    first = np.argsort(-np.abs(table["agreement_a"].where(ff, 0)), kind="stable")
    assert set(np.flatnonzero(clustered)) == {
        *first[: round(0.2 * ff.sum())],
        *np.flatnonzero((table["in_concept"] | table["in_suppressed"]) & ff),
    }
    rows = pandas.DataFrame(score.agreement(run.workspace, table)).set_index("score")
    assert rows.loc["rank of contrast, welch_z, auroc", "note"] == "chose the concept set" and rows.loc["z", "note"] == "for comparison"
    assert rows.loc["auroc", "note"] == "agrees on the concept set"


def test_a_single_score_chooses_as_before_and_its_table_has_no_column_more(planted):
    run, table = planted()
    value = table["contrast_a"].to_numpy()
    at = [np.flatnonzero((table["site"] == site).to_numpy()) for site in run.study.record.sites]
    for rows in at:
        first = set(rows[np.argsort(-value[rows], kind="stable")][: round(0.04 * len(rows))])
        assert set(np.flatnonzero(table["in_concept"])) & set(rows) == {row for row in first if value[row] > 0}
    assert not any(column.startswith("agreement") for column in table)
    rows = score.agreement(run.workspace, table)
    assert rows[[row["score"] for row in rows].index("contrast")]["note"] == "chose the concept set"


def test_scores_that_agree_on_nothing_are_told_before_anything_follows(planted):
    with pytest.raises(StatisticsError, match="3 of 3 votes: contrast, welch_z, auroc.*fewer votes"):
        planted(f"choose.agree={THREE}", 'choose.by="votes"', "choose.votes=3", "choose.share=0.002")


def test_older_studies_keep_their_keys(study_file):
    older = {"score": "contrast", "parameters": {}, "compare": None, "share": 0.04, "seed": 0, "n_random": 199, "n_resamples": 1000}
    assert Choose().model_dump() == older
    plan = execute.prepare(workbench.load_study(study_file))[0]
    node = plan.node("score")
    inputs = [plan.node(f"record:base:{name}").key for name in ("target", "reference")]
    content = older | {"n_random": 19, "n_resamples": 100, "sites": ["ff", "update"]}
    content |= {"versions": {"conceptprune": 2, "fia": 2}}  # of scores whose code gives other numbers than at first
    assert node.shards[0].key == digest(["score", 3, content, None, inputs])[:24]
    with_agree = execute.prepare(workbench.load_study(study_file).with_values([f"choose.agree={THREE}"]))[0]
    same = {one.id for one in plan.nodes} & {one.id for one in with_agree.nodes if one.key == plan.node(one.id).key}
    # other neurons: what is pruned changes, nothing that was recorded of the base or the erased model does
    assert {"record:base:target", "record:erased:reference", "erase:erased"} <= same and "score" not in same and "erase:pruned" not in same


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (['choose.agree=["contrast"]'], "at least 2 different scores"),
        (['choose.agree=["contrast", "contrast"]'], "at least 2 different scores"),
        (["choose.agree=[]"], "at least 2 different scores"),
        (['choose.agree=["contrast", "welchz"]'], 'Did you mean "welch_z"'),
        (['choose.agree=["contrast", "correlation"]'], '"correlation" needs an erased model'),
        (['choose.agree=["z", "auroc"]'], "is not among choose.agree"),
        (['choose.agree=["contrast", "z"]', "choose.votes=2"], 'needs choose.by = "votes"'),
        (['choose.agree=["contrast", "z"]', 'choose.by="rank"', "choose.votes=1"], 'needs choose.by = "votes"'),
        (['choose.agree=["contrast", "z"]', 'choose.by="votes"'], "how many of the 2 scores"),
        (['choose.agree=["contrast", "z"]', 'choose.by="votes"', "choose.votes=3"], "only 2 scores are listed"),
        (['choose.by="votes"'], "choose.agree lists none"),
        (["choose.votes=1"], "choose.agree lists none"),
        (['choose.by="vote"', 'choose.agree=["contrast", "z"]'], "choose.by"),
    ],
)
def test_contradictory_settings_are_refused(study_file, settings, message):
    with pytest.raises(StudyError, match=message):
        workbench.load_study(study_file).with_values(settings)


def checked(tables):
    """The tables of a run as report.json holds them."""
    tables = plain_json(tables)
    for name, rows in tables.items():
        document.check_table(name, rows)
    return tables


def test_planted_neurons_are_confirmed_and_loud_ones_are_not(planted):
    said = {}
    for name, settings in (("together", [f"choose.agree={THREE}"]), ("alone", [])):
        run, table = planted("choose.share=0.05", *settings)
        tables, columns = choice.tables(run.workspace, table)
        tables, table = checked(tables), table.assign(**columns)
        assert table["confirmed"].notna().tolist() == (table["in_concept"] | table["in_suppressed"]).tolist()
        assert table.loc[table["in_concept"], "p_adjusted"].between(0, 1).all()
        sure = table["confirmed"].fillna(False).to_numpy(bool)
        concept = table["in_concept"].to_numpy() & run.ff
        row = next(row for row in tables["selection"] if (row["neuron_set"], row["site"]) == ("concept", "ff"))
        assert row["confirmed"] == (sure & concept).sum() and row["m"] == row["n_chosen"] == concept.sum() and row["n"] == N_UNITS / 2
        assert row["random_low"] <= row["random"] <= row["random_high"]
        assert sure[run.true].sum() == found(table, run.true) and sure[run.loud].sum() <= 2
        said[name] = sentence(Report(tables)), row["confirmed"]
    assert said["together"][1] >= N_TRUE and said["together"][0].startswith("Yes: ")
    assert said["alone"][1] <= 2 and said["alone"][0].startswith("No: ")


def test_an_agreed_choice_is_stable_and_stands_beside_chance(planted):
    run, table = planted(f"choose.agree={THREE}", f"choose.share={N_TRUE / 256}")
    tables, columns = choice.tables(run.workspace, table)
    rows = pandas.DataFrame(checked(tables)["stability"]).set_index("over")
    assert set(rows.index) == {"halves", "repeated halves", "seeds", "triggers", "scores"}
    for over in ("halves", "repeated halves"):
        assert rows.loc[over, "iou"] > rows.loc[over, "chance_high"]
    assert rows.loc["repeated halves", "low"] - 1e-9 <= rows.loc["repeated halves", "iou"] <= rows.loc["repeated halves", "high"] + 1e-9
    assert rows.loc["seeds", "iou"] is None or np.isnan(rows.loc["seeds", "iou"])
    assert "one seed" in rows.loc["seeds", "reason"]
    triggers = rows.loc["triggers"].set_index("second")
    assert triggers.loc["attack paraphrase", "iou"] > triggers.loc["attack paraphrase", "chance_high"]
    assert "only one name of the concept" in triggers.loc["another", "reason"]
    assert set(rows.loc["scores", "second"]) == {"contrast", "z", "welch_z", "auroc"}
    often = columns["frequency"]
    assert np.isnan(often[~run.ff]).all() and often[run.true].min() > 0.8 > 0.2 > np.delete(often[run.ff], 0).mean()


@pytest.mark.parametrize("over", ["seeds", "triggers"])
def test_choices_of_two_seeds_or_two_names_are_compared(planted, over):
    run, table = planted(**({"n_rows": 2} if over == "seeds" else {"names": ("ink", "lineart")}))
    rows = [row for row in choice.tables(run.workspace, table)[0]["stability"] if row["over"] == over and row["reason"] is None]
    rows = [row for row in rows if "attack" not in row["second"]]
    assert len(rows) == 1 and {rows[0]["first"], rows[0]["second"]} == (
        {"seed 1 of each unit", "seed 2 of each unit"} if over == "seeds" else {'"ink"', '"lineart"'}
    )
    # both rows of a unit are the same recording here
    assert rows[0]["iou"] == 1 if over == "seeds" else rows[0]["chance"] < rows[0]["iou"] < 1
    assert rows[0]["n"] == N_UNITS / 2 if over == "seeds" else rows[0]["n"] <= N_UNITS / 4 + 2


def test_in_a_null_study_the_choice_is_confirmed_no_more_than_chance(planted):
    run, _ = planted(effect=0.0)
    confirmed, chosen, ps, words = 0, 0, [], []
    for seed in range(12):
        run.study.choose.seed = seed
        sides = recordings(len(run.ff), run.ff, 0.0, seed)[0]
        run.workspace.mean_abs = lambda variant, name, trajectory, quantity="mean_abs", sides=sides: sides[_attack(name)]
        table = run.scored(run.workspace.store.folder.parent / f"null-{seed}")
        rows = plain_json(choice.selection_rows(run.workspace, table, choice.base_means(run.workspace))[0])
        row = next(row for row in rows if (row["neuron_set"], row["site"]) == ("concept", "ff"))
        confirmed, chosen = confirmed + row["confirmed"], chosen + row["n_chosen"]
        ps.append(row["p_random"])
        words.append(sentence(Report({"selection": rows, "stability": []})))
        assert row["random_low"] <= 0.5 <= row["random_high"]
    assert confirmed <= 0.05 * chosen
    assert np.mean(np.array(ps) <= 0.05) <= 0.25
    assert sum(word.startswith("No: ") for word in words) >= 9
