"""Variants and attacks that are repeated with several seeds, and what the intervals of a study do not cover without that.

expanded       the variants and attacks of the file -> one for each run, each an ordinary variant or attack of the study
meets          whether an attack made against one variant is shown to another
RUN            the name of a run
repeated       {name in the file: [names of its runs]}
written        the names in the file
caveat         the sentence for what was trained, or searched, with one seed only
cost           the sentence that says how many trainings and searches `seeds` ask for

What depends on a variant with seeds (a child, a mask that is `like` it) follows it seed by seed: run s is made from run s, with the seed
s where its method takes one. An attack against such a variant is made against each of its runs. Runs of different seeds do not meet.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from workbench import registry
from workbench.study.fields import MOST_NAME

if TYPE_CHECKING:
    from workbench.study.attacks import AttackTable
    from workbench.study.study import Study
    from workbench.study.variants import VariantTable

Table = TypeVar("Table", "VariantTable", "AttackTable")
Seeds = dict[str, list[int]]  # name of a variant with seeds -> its seeds

RUN = "{name}-seed{seed}"
MOST_SEEDS = 20
MOST_PARTS = 200
SHOWN = 3


def expanded(variants: "Sequence[VariantTable]", attacks: "Sequence[AttackTable]") -> "tuple[list[VariantTable], list[AttackTable]]":
    """(variants, attacks) with one table for each run in place of each table with seeds, in the order of the file.

    A run is called RUN; its `run_of` is (name in the file, seed). Tables without seeds stay the objects they are.

    Raises   ValueError with one sentence: seeds for a method without randomness, beside a `seed`, fewer than 2, more than MOST_SEEDS,
             other seeds than those of the parent, or a run named where its variant should be named
    """
    has_seeds = any(variant.seeds for variant in variants) or any(attack.seeds for attack in attacks)
    for what, names in (("variants", [variant.label for variant in variants]), ("attacks", [attack.label for attack in attacks])):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None and has_seeds:
            raise ValueError(f'two {what} are called "{twice}"; a table with seeds needs a name of its own')
    seeds: Seeds = {}
    all_variants: list[VariantTable] = []
    for variant in variants:
        its_seeds = _seeds_of_variant(variant, seeds)
        if its_seeds is None:
            all_variants.append(variant)
            continue
        seeds[variant.name] = its_seeds
        for seed in its_seeds:
            links = {key: RUN.format(name=value, seed=seed) for key in ("parent", "like") if (value := getattr(variant, key)) in seeds}
            all_variants.append(_run(variant, seed, "erasers", links))
    all_attacks: list[AttackTable] = []
    for attack in attacks:
        where = f'attack "{attack.label}"'
        for name in attack.against:
            _refuse_run(name, seeds, f'{where} is against "{name}"', "and it is made against each run")
        against = [run for name in attack.against for run in _runs(name, seeds)]
        if against != attack.against:
            attack = attack.model_copy(update={"against": against})
        if attack.seeds is None:
            all_attacks.append(attack)
            continue
        _check_seeds(attack, attack.seeds, "attacks", where)
        all_attacks += [_run(attack, seed, "attacks", {}) for seed in attack.seeds]
    for what, n in (("variants", len(all_variants)), ("attacks", len(all_attacks))):
        if n > MOST_PARTS:
            raise ValueError(f"the seeds ask for {n} {what}, more than the {MOST_PARTS} that are possible: give fewer seeds")
    return all_variants, all_attacks


def meets(study: "Study", against: str | None, variant: str) -> bool:
    """Whether what was made against one variant is shown to another: runs of different seeds do not meet."""
    run_of: dict[str | None, tuple[str, int] | None] = {table.name: table.run_of for table in study.variants}
    first, second = run_of.get(against), run_of.get(variant)
    return first is None or second is None or first[1] == second[1]


def repeated(tables: "Iterable[VariantTable | AttackTable]") -> dict[str, list[str]]:
    """{name in the file: [names of its runs]} of variants or attacks with seeds."""
    found: dict[str, list[str]] = {}
    for table in tables:
        if table.run_of:
            found.setdefault(table.run_of[0], []).append(table.label)
    return found


def written(tables: "Iterable[VariantTable | AttackTable]") -> list[str]:
    """The names of variants or attacks in the file, each once."""
    return list(dict.fromkeys(table.run_of[0] if table.run_of else table.label for table in tables))


def caveat(study: "Study") -> str | None:
    """What the intervals do not cover: other trainings and other searches. None where everything has seeds.

    A variant counts where its eraser takes a seed, or is a checkpoint of one training; an attack where it searches with a seed.
    A mask that is chosen without randomness adds nothing to the training it stands on.
    """
    trained = [variant.name for variant in study.variants if variant.run_of is None and _takes_seed("erasers", variant)]
    read = [variant.name for variant in study.variants if variant.run_of is None and _is_read(variant)]
    searched = [attack.label for attack in study.attacks if attack.run_of is None and _searches(attack) and _takes_seed("attacks", attack)]
    parts = [f"one training seed {_of(trained, 'variants')}"] if trained else []
    parts += [f"one checkpoint {_of(read, 'variants')}"] if read else []
    parts += [f"one attack seed {_of(searched, 'attacks')}"] if searched else []
    if not parts:
        return None
    sentence = f"Intervals cover only {_listed(parts)}"
    if len(trained + read) > 1:
        sentence += ", so a difference between variants may be one between trainings"
    what = " and ".join(["[[variants]]"] * bool(trained) + ["[[attacks]]"] * bool(searched))
    return sentence + (f"; to cover more seeds, set `seeds` on {what}." if what else ".")


def cost(study: "Study") -> str | None:
    """How many trainings and searches `seeds` ask for; None for a study without."""
    trained, tried = repeated(study.variants), repeated(study.attacks)
    parts = [f"{name} is made {len(runs)} times ({', '.join(runs)})" for name, runs in trained.items()]
    searches: dict[str, int] = {}
    for attack in study.attacks:
        name = attack.run_of[0] if attack.run_of else attack.label
        searches[name] = searches.get(name, 0) + max(1, len(attack.against))
    runs_of_variants = {run for runs in trained.values() for run in runs}
    parts += [
        f"{name} is made {n} times"
        for name, n in searches.items()
        if name in tried or any(runs_of_variants & {*attack.against} for attack in study.attacks if attack.label == name)
    ]
    return f"Seeds: {'; '.join(parts)}." if parts else None


def _run(table: Table, seed: int, kind: str, links: dict[str, str]) -> Table:
    name = table.label
    run_name = RUN.format(name=name, seed=seed)
    if len(run_name) > MOST_NAME:
        raise ValueError(f'the run "{run_name[:40]}…" has a name of {len(run_name)} letters, more than {MOST_NAME}: choose a shorter one')
    of_method = {"seed": seed} if _takes_seed(kind, table) else {}
    run = table.model_copy(update={"name": run_name, "seeds": None, "parameters": table.parameters | of_method, **links})
    run._run_of = name, seed
    return run


def _seeds_of_variant(variant: "VariantTable", seeds: Seeds) -> list[int] | None:
    """The seeds a variant is trained with: its own, or those of its parent or of the mask it is like; None for one training."""
    where = f'variant "{variant.name}"'
    for key in ("parent", "like"):
        name = getattr(variant, key)
        _refuse_run(name, seeds, f'{where} {"has the parent" if key == "parent" else "is like"} "{name}"', "and it is made on each run")
    if variant.seeds is not None:
        _check_seeds(variant, variant.seeds, "erasers", where)
    found = variant.seeds
    for key in ("parent", "like"):
        name = getattr(variant, key)
        if name not in seeds:
            continue
        if found is not None and sorted(found) != sorted(seeds[name]):
            other = "its parent" if key == "parent" else "the mask it is like,"
            raise ValueError(
                f'{where} has the seeds {found}, but {other} "{name}" has {seeds[name]}: each run is made from the run with the same '
                "seed. Leave its `seeds` out, or write the same ones"
            )
        found = found or seeds[name]
        if "seed" in variant.parameters and _takes_seed("erasers", variant):
            raise ValueError(
                f'{where} sets the parameter `seed`, but it follows the seeds {seeds[name]} of "{name}", run by run. Leave `seed` out'
            )
    return found


def _check_seeds(table: "VariantTable | AttackTable", seeds: list[int], kind: str, where: str) -> None:
    known = registry.methods(kind)
    if table.method in known and not _takes_seed(kind, table):
        able = ", ".join(name for name, method in known.items() if "seed" in method.parameters.model_fields)
        raise ValueError(
            f"{where}: {table.method} takes no `seed`, so every run would be the same. Leave `seeds` out (what is made from a variant "
            f"with seeds follows it by itself). Methods that can have seeds: {able}"
        )
    if not 2 <= len(seeds) <= MOST_SEEDS:
        alone = "; one seed is set as parameters.seed" if len(seeds) == 1 else ""
        raise ValueError(f"{where}: `seeds` needs 2 to {MOST_SEEDS} different seeds, found {len(seeds)}{alone}")
    if "seed" in table.parameters:
        raise ValueError(f"{where} has both `seeds` and the parameter `seed`: leave `seed` out")


def _refuse_run(name: str | None, seeds: Seeds, what: str, each: str) -> None:
    variant = next((one for one, its_seeds in seeds.items() if name in [RUN.format(name=one, seed=seed) for seed in its_seeds]), None)
    if variant is not None:
        raise ValueError(f'{what}, which is one run of "{variant}": write "{variant}", {each}')


def _runs(name: str, seeds: Seeds) -> list[str]:
    return [RUN.format(name=name, seed=seed) for seed in seeds[name]] if name in seeds else [name]


def _takes_seed(kind: str, table: "VariantTable | AttackTable") -> bool:
    known = registry.methods(kind)
    return table.method in known and "seed" in known[table.method].parameters.model_fields


def _is_read(variant: "VariantTable") -> bool:
    return registry.method("erasers", variant.method).reads_files and not _takes_seed("erasers", variant)


def _searches(attack: "AttackTable") -> bool:
    return registry.method("attacks", attack.method).has_cost


def _of(names: Sequence[str], what: str) -> str:
    return f"({', '.join(names) if len(names) <= SHOWN else f'each of {len(names)} {what}'})"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
