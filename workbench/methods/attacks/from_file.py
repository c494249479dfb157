"""From file: adversarial prompts made elsewhere, as a CSV with the columns unit and prompt, or imported embeddings."""

from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from workbench import resources
from workbench.errors import PromptError, nearest
from workbench.methods.attacks import reseeded, reworded, vectors_before
from workbench.storage import file_digest
from workbench.study.fields import NonEmpty, Seed
from workbench.study.imports import embeddings, read_about
from workbench.study.prompts import by_seed, read_csv, read_prompts, seeds_by_unit

OPTIMISED = False


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    file: NonEmpty = Field(
        description="CSV with one adversarial prompt for each unit of the target set, or a .safetensors of import-prompts"
    )
    token: NonEmpty | None = Field(None, description="which of several embeddings stands before every prompt")
    seed: Seed = Field(0, description="of the control's other noise or random vectors")


def attack(model, targets, parameters, context):
    """Read the file and put its prompts, or its vectors, in the order of the targets; seeds stay those of the targets.

    A CSV with the column `original` (what each prompt was made from) is matched by that text, any other by unit. Where a unit
    of the targets has several rows, its rows in the file are taken by seed where both have the same seeds, else in their
    order; a single one serves them all.

    Raises   PromptError when a unit of the targets has no row or too few, or the vectors do not fit the model
    """
    path = resources.find_file(parameters.file, context.folder)
    if path.suffix == ".safetensors":
        return vectors_before(targets, _vectors(path, model, targets, parameters.token), context)
    if parameters.token is not None:
        raise PromptError(f'{path} holds prompts, no embeddings: leave out token = "{parameters.token}".')
    given = read_prompts(path, "adversarial", "adversarial").table
    about = read_about(path)
    if about and about.get("kind") == "pairs":
        raise PromptError(f"{path} is a list of pairs, no attack. Name it as `prompts.erase` instead.")
    return reworded(targets, _prompts(path, given, targets), context)


def check(parameters, model):
    """Refuse, before anything runs, a file that cannot be read, is no attack, or holds vectors of another kind of model."""
    path = Path(parameters.file)
    if path.suffix == ".safetensors":
        _check_fit(path, embeddings.load_vectors(path)[1], model)
        return
    read_prompts(path, "adversarial", "adversarial")
    about = read_about(path)
    if about and about.get("kind") == "pairs":
        raise PromptError(f"{path} is a list of pairs, no attack. Name it as `prompts.erase` instead.")


def control(model, targets, adversarial, parameters, context):
    """The unchanged prompts from other noise; for embeddings random vectors of their norms."""
    if adversarial.prefix is None:
        return reseeded(targets, context, 1_000_003 + parameters.seed, control=True)
    import torch

    generator = torch.Generator().manual_seed(parameters.seed + 1)
    random = torch.randn(adversarial.prefix.shape, generator=generator)
    norms = adversarial.prefix.norm(dim=-1, keepdim=True)
    return vectors_before(targets, random / random.norm(dim=-1, keepdim=True) * norms, context, True)


def made_against(parameters, folder):
    """What the file was made against, as its import noted: None for static prompts.

    Made against another model it is never the name of a variant: a set is only called optimised on what it was optimised on.
    """
    about = read_about(resources.find_file(parameters.file, folder))
    if about is None or about["against"] is None:
        return None
    return about["against"] if about["provenance"] == "optimised" else f"{about['against']} (another model)"


def files(parameters, folder):
    """{name: sha256} of the files an attack is made from."""
    return {parameters.file: file_digest(resources.find_file(parameters.file, folder))}


def _prompts(path, given, targets):
    """The prompts of a CSV in the order of the targets; by original text when the file has it, else by unit."""
    original = _originals(path, given)
    if original is None:
        rows = {unit: list(zip(mine["seed"], mine["prompt"], strict=True)) for unit, mine in given.groupby("unit", sort=False)}
        missing = [unit for unit in targets.pair_units if unit not in rows]
        if missing:
            raise PromptError(
                f'{path} has no prompt for {len(missing)} units of the target set, e.g. "{missing[0]}". '
                "Give the file a column `unit` that repeats the target set's units."
            )
        return _in_rows(path, rows, targets)
    by_text = {}
    for text, unit, prompt in zip(original, given["unit"], given["prompt"], strict=True):
        by_text.setdefault(_plain(text), {}).setdefault(unit, []).append(prompt)
    found = [by_text.get(_plain(prompt), {}) for prompt in targets.prompts]
    missing = [unit for unit, rows in zip(targets.pair_units, found, strict=True) if not rows]
    if missing:
        raise PromptError(
            f"{path} was made from other prompts: its column `original` has none for {len(missing)} units of the target set, "
            f'e.g. "{missing[0]}". Use the list the attack started from as target, or remove that column to match by unit.'
        )
    made, taken = [], Counter()
    for unit, text, rows in zip(targets.pair_units, targets.prompts, found, strict=True):
        mine = rows.get(unit, next(iter(rows.values())))
        made.append(mine[taken[unit, text] % len(mine)])
        taken[unit, text] += 1
    return made


def _in_rows(path, rows, targets):
    """The prompts of {unit: (seed, prompt) rows of the file} in the order of the targets' rows."""
    made = {}
    for unit, wanted in seeds_by_unit(targets).items():
        found, texts = zip(*rows[unit], strict=True)
        if len(texts) == 1:
            texts *= len(wanted)
        if len(texts) < len(wanted):
            raise PromptError(
                f'{path} has {len(texts)} prompts for the unit "{unit}", the target set has {len(wanted)}. Give one for all, or as many.'
            )
        made |= {(unit, place): text for place, text in zip(by_seed(wanted, found) or range(len(wanted)), texts, strict=False)}
    return [made[key] for key in targets.keys]


def _originals(path, given):
    """The column `original` of the rows that were read, or None."""
    table = read_csv(path)
    if "original" not in table:
        return None
    original = table.loc[table["prompt"].notna(), "original"].fillna("").astype(str)
    return original if original.str.strip().any() and len(original) == len(given) else None


def _plain(text):
    return " ".join(text.casefold().split())


def _vectors(path, model, targets, token):
    """(prompt, n, channel): the one embedding, the chosen one, or that of each unit when the tokens are the units."""
    places, vectors = embeddings.load_vectors(Path(path))
    _check_fit(path, vectors, model)
    if token is not None and token not in places:
        raise PromptError(f'{path} has no embedding "{token}".{nearest(token, places)}')
    if token is None and len(places) > 1:
        if not set(targets.pair_units) <= set(places):
            raise PromptError(f"{path} holds {len(places)} embeddings. Choose one with the parameter token: {', '.join(places)}.")
        return vectors[[places[unit] for unit in targets.pair_units]]
    return vectors[places[token] if token is not None else 0].expand(len(targets), -1, -1).clone()


def _check_fit(path, vectors, model):
    """Refuse vectors (token, n, channel) that have no place in the model's prompts."""
    from workbench.models import text

    channels, room = text.token_vectors(model).shape[1], model.tokenizer.model_max_length - 2
    if vectors.shape[2] != channels:
        takes = "text encoder of {} takes" if model.text_encoder_2 is None else "two text encoders of {} together take"
        raise PromptError(
            f"{path} has vectors of {vectors.shape[2]} channels, the {takes.format(model.name)} {channels}. "
            "It was learned for another kind of model."
        )
    if vectors.shape[1] >= room:
        raise PromptError(f"{path} has {vectors.shape[1]} vectors for each prompt, the context holds {room}: no word would be left.")
