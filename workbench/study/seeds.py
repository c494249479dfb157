"""Variants and attacks that are repeated with other seeds, and what the numbers of a study hold for without that.

expanded       the written variants and attacks -> one for each run, each an ordinary part of the study
meets          whether an attack made against one variant is shown to another
RUN            how a run is called
repeated       {name as written: [names of its runs]}
written        the names as they are written
caveat         the sentence for what was trained, or searched, with one seed alone
cost           the sentence that says how many trainings and searches `seeds` ask for

What depends on a variant with seeds (a child, a mask that is `like` it) follows it seed by seed: run s is made from run s, with the seed
s where its method takes one. An attack against such a variant is made against each of its runs. Runs of different seeds do not meet.
"""

from workbench import registry
from workbench.study.fields import MOST_NAME

RUN = "{name}-seed{seed}"
MOST_SEEDS = 20
MOST_PARTS = 200
SHOWN = 3


def expanded(variants, attacks):
    """(variants, attacks) with one part for each run in place of each part with seeds, in the order they are written in.

    A run is called RUN and knows by `run_of` = (name, seed) what it is a run of. Parts without seeds stay the objects they are.

    Raises   ValueError with one sentence: seeds for a method without randomness, beside a `seed`, fewer than 2, more than MOST_SEEDS,
             other seeds than those of the parent, or a run named where its variant is to be named
    """
    for what, names in (("variants", [part.name for part in variants]), ("attacks", [part.label for part in attacks])):
        again = next((name for name in names if names.count(name) > 1), None)
        if again is not None and any(part.seeds for part in (*variants, *attacks)):
            raise ValueError(f'two {what} are called "{again}"; what has seeds needs a name of its own')
    seeds, made = {}, []
    for part in variants:
        own = _seeds_of_variant(part, seeds)
        if own is None:
            made.append(part)
            continue
        seeds[part.name] = own
        for seed in own:
            about = {key: RUN.format(name=value, seed=seed) for key in ("parent", "like") if (value := getattr(part, key)) in seeds}
            made.append(_run(part, part.name, seed, "erasers", about))
    tried = []
    for part in attacks:
        where = f'attack "{part.label}"'
        for name in part.against:
            _refuse_run(name, seeds, f'{where} is against "{name}"', "and it is made against each run")
        against = [run for name in part.against for run in _runs(name, seeds)]
        part = part if against == part.against else part.model_copy(update={"against": against})
        if part.seeds is None:
            tried.append(part)
            continue
        _check_seeds(part, "attacks", where)
        tried += [_run(part, part.label, seed, "attacks", {}) for seed in part.seeds]
    for what, parts in (("variants", made), ("attacks", tried)):
        if len(parts) > MOST_PARTS:
            raise ValueError(f"the seeds ask for {len(parts)} {what}, more than the {MOST_PARTS} that are possible: take fewer seeds")
    return made, tried


def meets(study, against, variant):
    """Whether what was made against one variant is shown to another: runs of different seeds do not meet."""
    run_of = {part.name: part.run_of for part in study.variants}
    first, second = run_of.get(against), run_of.get(variant)
    return first is None or second is None or first[1] == second[1]


def repeated(parts):
    """{name as written: [names of its runs]} of variants or attacks with seeds."""
    found = {}
    for part in parts:
        if part.run_of:
            found.setdefault(part.run_of[0], []).append(getattr(part, "label", part.name))
    return found


def written(parts):
    """The names of variants or attacks as they are written, each once."""
    return list(dict.fromkeys(part.run_of[0] if part.run_of else getattr(part, "label", part.name) for part in parts))


def caveat(study):
    """What the intervals do not hold for: other trainings and other searches than the one there was. None where all have seeds.

    A variant counts where its eraser takes a seed, or is a checkpoint of one training; an attack where it searches with a seed.
    A mask that is chosen without randomness adds nothing to the training it stands on.
    """
    once = [part.name for part in study.variants if part.run_of is None and _takes_seed("erasers", part)]
    read = [part.name for part in study.variants if part.run_of is None and _is_read("erasers", part)]
    searched = [part.label for part in study.attacks if part.run_of is None and _searches(part) and _takes_seed("attacks", part)]
    said = [f"one training seed {_of(once, 'variants')}"] if once else []
    said += [f"one checkpoint {_of(read, 'variants')}"] if read else []
    said += [f"one attack seed {_of(searched, 'attacks')}"] if searched else []
    if not said:
        return None
    sentence = f"All intervals hold for {_listed(said)}"
    if len(once + read) > 1:
        sentence += ", so a difference between variants may be one between trainings"
    what = " and ".join(["[[variants]]"] * bool(once) + ["[[attacks]]"] * bool(searched))
    return sentence + (f"; to include other seeds, set `seeds` on {what}." if what else ".")


def cost(study):
    """How many trainings and searches `seeds` ask for; None for a study without."""
    trained, tried = repeated(study.variants), repeated(study.attacks)
    said = [f"{name} is made {len(runs)} times ({', '.join(runs)})" for name, runs in trained.items()]
    searches = {}
    for part in study.attacks:
        name = part.run_of[0] if part.run_of else part.label
        searches[name] = searches.get(name, 0) + max(1, len(part.against))
    many = {runs for names in trained.values() for runs in names}
    said += [
        f"{name} is made {n} times"
        for name, n in searches.items()
        if name in tried or any(many & {*part.against} for part in study.attacks if part.label == name)
    ]
    return f"Seeds: {'; '.join(said)}." if said else None


def _run(part, name, seed, kind, about):
    called = RUN.format(name=name, seed=seed)
    if len(called) > MOST_NAME:
        raise ValueError(f'the run "{called[:40]}…" has a name of {len(called)} letters, more than {MOST_NAME}: choose a shorter one')
    own = {"seed": seed} if _takes_seed(kind, part) else {}
    run = part.model_copy(update={"name": called, "seeds": None, "parameters": part.parameters | own, **about})
    run._run_of = name, seed
    return run


def _seeds_of_variant(part, seeds):
    """The seeds a variant is trained with: its own, or those of its parent or of the mask it is like; None for one training."""
    where = f'variant "{part.name}"'
    for key in ("parent", "like"):
        name = getattr(part, key)
        said = "has the parent" if key == "parent" else "is like"
        _refuse_run(name, seeds, f'{where} {said} "{name}"', "and it is made on each run")
    if part.seeds is not None:
        _check_seeds(part, "erasers", where)
    own = part.seeds
    for key in ("parent", "like"):
        name = getattr(part, key)
        if name not in seeds:
            continue
        if own is not None and sorted(own) != sorted(seeds[name]):
            said = "its parent" if key == "parent" else "what it is like,"
            raise ValueError(
                f'{where} has the seeds {own}, but {said} "{name}" has {seeds[name]}: run by run it is made from the run with the same '
                "seed. Leave its `seeds` out, or write the same ones"
            )
        own = own or seeds[name]
        if "seed" in part.parameters and _takes_seed("erasers", part):
            raise ValueError(
                f'{where} sets the parameter `seed`, but it follows the seeds {seeds[name]} of "{name}", run by run. Leave `seed` out'
            )
    return own


def _check_seeds(part, kind, where):
    known = registry.methods(kind)
    if part.method in known and not _takes_seed(kind, part):
        able = ", ".join(name for name, method in known.items() if "seed" in method.parameters.model_fields)
        raise ValueError(
            f"{where}: {part.method} takes no `seed`, so that every run would be the same. Leave `seeds` out (what is made from a variant "
            f"with seeds follows it by itself). Methods that can have seeds: {able}"
        )
    if not 2 <= len(part.seeds) <= MOST_SEEDS:
        alone = "; one seed is set as parameters.seed" if len(part.seeds) == 1 else ""
        raise ValueError(f"{where}: `seeds` needs 2 to {MOST_SEEDS} different seeds, found {len(part.seeds)}{alone}")
    if "seed" in part.parameters:
        raise ValueError(f"{where} has both `seeds` and the parameter `seed`: leave `seed` out")


def _refuse_run(name, seeds, said, each):
    of = next((one for one, theirs in seeds.items() if name in [RUN.format(name=one, seed=seed) for seed in theirs]), None)
    if of is not None:
        raise ValueError(f'{said}, which is one run of "{of}": write "{of}", {each}')


def _runs(name, seeds):
    return [RUN.format(name=name, seed=seed) for seed in seeds[name]] if name in seeds else [name]


def _takes_seed(kind, part):
    known = registry.methods(kind)
    return part.method in known and "seed" in known[part.method].parameters.model_fields


def _is_read(kind, part):
    return hasattr(registry.method(kind, part.method).module, "files") and not _takes_seed(kind, part)


def _searches(part):
    return hasattr(registry.method("attacks", part.method).module, "passes")


def _of(names, what):
    return f"({', '.join(names) if len(names) <= SHOWN else f'each of {len(names)} {what}'})"


def _listed(said):
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
