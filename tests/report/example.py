"""An invented run, complete enough to fill every section of a report."""

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from tests.report import example_analysis as analysis
from tests.report import example_neurons as neuron_tables
from tests.report import example_tables as tables
from tests.report import invented
from tests.report.example_analysis import HOSTILE
from tests.report.example_tables import ATTACKS, VARIANTS
from workbench.report import document as schema
from workbench.report.images import blurred
from workbench.report.region_pictures import overlay, small, webp
from workbench.report.section import found
from workbench.report.sections.verdict import DATA
from workbench.storage import plain_json

UNITS = (
    "heart-noto",
    "heart-twemoji",
    "heart-openmoji",
    "heart-blob",
    "heart-fluent",
    "heart-flat",
)


ANALYSIS = [table.name for name in ("attribution", "clusters", "neuron_sets", "ablation") for table in found()[name].tables]


def example(n_image_units=4):
    """A document that passes schema.check; every number is invented."""
    return _with_added(
        {
            "schema_version": 1,
            "study": _study(),
            "models": _models(),
            "rates": tables.rates(),
            "rates_by_label": tables.rates_by_label(),
            "detectors": tables.detectors(),
            "sweep": tables.sweep(),
            "attacks": tables.attacks(),
            "training": tables.training(),
            "budget": tables.budget(),
            "retention": tables.retention(),
            "quality": tables.quality(),
            "clip": tables.clip(),
            "activity": neuron_tables.activity(),
            "activity_by_call": neuron_tables.by_call(),
            "effects": neuron_tables.effects(),
            "set_validity": neuron_tables.set_validity(),
            "other_concept": neuron_tables.other_concept(),
            "neurons": neuron_tables.neurons(),
            "comparisons": tables.comparisons(),
            "against_control": tables.against_control(),
            "over_runs": tables.over_runs(),
            "waking": neuron_tables.waking(),
            "relocation": neuron_tables.relocation(),
            "scores": neuron_tables.scores(),
            "selection": neuron_tables.selection(),
            "stability": neuron_tables.stability(),
            **{name: getattr(analysis, name)() for name in ANALYSIS},
            "verdict": _verdict(),
            "images": _images(n_image_units),
            "neuron_table": "neurons.parquet",
            "timings": [
                {"stage": "erase", "seconds": 312.5, "nodes": 2},
                {"stage": "attack", "seconds": 1480.2, "nodes": 6},
                {"stage": "record", "seconds": 655.0, "nodes": 24},
                {"stage": "report", "seconds": 8.1, "nodes": 1},
            ],
            "reproduce": _reproduce(),
        }
    )


def _with_added(document):
    for table in schema.tables().values():
        document.setdefault(table.name, invented.rows(table))
    return schema.with_added(plain_json(document))


def write_example(folder, **options):
    """The example as a report folder with images and a neuron table; returns the document."""
    folder = Path(folder)
    document = example(**options)
    schema.write(document, folder)
    (folder / "study.toml").write_text(document["study"]["text"], encoding="utf-8")
    (folder / "images").mkdir(exist_ok=True)
    for row in document["images"]:
        _picture(row).save(folder / row["path"])
    for row in document["cluster_regions"]:
        shots = [row[kind] for kind in ("drawn", "read_on", "overlay") if row[kind]]
        for path in shots:
            picture = _picture({"path": path, "success": "esd" not in path, "blurred": False})
            hill = [[4 * math.exp(-((x - 5) ** 2 + (y - 4) ** 2) / 9) for x in range(16)] for y in range(16)]
            picture = overlay(picture, hill, 3.2, hide=True) if path == row["overlay"] else small(blurred(picture))
            (folder / path).write_bytes(webp(picture))
    write_neurons(folder / document["neuron_table"])
    return document


def write_neurons(path, n=400):
    import pyarrow
    import pyarrow.parquet

    draw = random.Random(5)
    rows = []
    for place in range(n):
        chosen = place < 160
        z = draw.gauss(3.2, 0.8) if chosen else draw.gauss(0, 1)
        kappa = 0.06 * z
        deactivated = draw.gauss(0.82, 0.16) if chosen else math.nan
        row = {
            "layer": f"down_blocks.{place % 3}.attentions.0.transformer_blocks.0.ff.net.2",
            "index": place,
            "site": "ff",
            "contrast": kappa * 1.1,
            "score": z,
            "score_b": z * 0.9,
            "correlation": draw.uniform(-0.2, 0.9),
            "in_concept": chosen,
            "in_prune": chosen and place % 2 == 0,
            "in_watch": chosen and place % 2 == 1,
            "kappa": kappa,
            "kappa_se": 0.02,
            "frequency": 0.9 if chosen else 0.02,
            "p_adjusted": 0.01 if chosen else None,
            "confirmed": place % 8 != 0 if chosen else None,
        }
        for variant, woken in (("esd", 0.55), ("uce", 0.35), ("esd-pruned", 0.12)):
            row[f"d_{variant}"] = deactivated
            row[f"r_{variant}"] = draw.gauss(woken, 0.2) if chosen else math.nan
            row[f"delta_{variant}"] = draw.gauss(woken * 2, 0.5)
        row |= {"attribution": 0.001 * z, "attribution_b": 0.0009 * z, "attribution_b_low": 0.0, "attribution_b_high": 0.002 * z}
        row |= (
            {"cluster": float(place % 2), "cluster_x": z, "cluster_y": -z}
            if chosen
            else dict.fromkeys(("cluster", "cluster_x", "cluster_y"))
        )
        rows.append(row)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def _study():
    return {
        "name": "emoji-heart",
        "title": "Does erasing “heart” deactivate its neurons, and does an attack reactivate them?",
        "question": "Two ways of erasing one concept from the bundled emoji model, two attacks on "
        "each, and the pruning of the neurons that carry the concept.",
        "concept": {"name": "heart", "kind": "object", "names": ["heart", "red heart", "love"]},
        "n_units": 120,
        "n_units_half_a": 60,
        "n_units_half_b": 60,
        "seeds": [0, 1, 2],
        "steps": 20,
        "guidance": 3.0,
        "scheduler": "DDIMScheduler",
        "window": [4, 15],
        "sites": ["ff"],
        "text": '# analyses/emoji-heart.toml\nschema_version = 1\nname = "emoji-heart"\n\n'
        '[concept]\nname = "heart"\n\n[[variants]]\nmethod = "esd"\nsteps = 400\n',
        "model_note": True,
        "score": {
            "rule": "contrast",
            "name": "contrast",
            "unit": "multiples of the layer's mean |a|",
            "what": "Contrast: how much more a neuron fires when the concept is in the prompt, in the base model.",
        },
    }


def _models():
    rows = []
    for variant, role, method, parent, what, changed, share, seconds in (
        ("base", "base", None, None, "the bundled emoji model, unchanged", 0, 0.0, None),
        (
            "esd",
            "erased",
            "esd",
            "base",
            "cross-attention weights trained away from the concept",
            118_272,
            0.0316,
            184.2,
        ),
        (
            "uce",
            "erased",
            "uce",
            "base",
            "keys and values of cross-attention, closed form",
            59_136,
            0.0158,
            2.6,
        ),
        (
            "esd-pruned",
            "pruned",
            "wanda",
            "esd",
            "80 of 160 concept neurons cut",
            5_120,
            0.0014,
            1.2,
        ),
    ):
        digest = f"{random.Random(variant).getrandbits(256):064x}"
        changes = [
            {
                "module": f"up_blocks.{i}.attentions.0.transformer_blocks.0.attn2.to_k",
                "relative_change": 0.21 / (i + 1),
            }
            for i in range(3)
        ]
        rows.append(
            {
                "variant": variant,
                "role": role,
                "method": method,
                "parent": parent,
                "digest": digest,
                "what": what,
                "parameters_changed": changed,
                "share_changed": share,
                "seconds": seconds,
                "largest_changes": changes if role == "erased" else [],
                "reason": None,
            }
        )
    return rows


def _verdict():
    def evidence(name, value, low, high, n=60):
        return {"name": name, "value": value, "low": low, "high": high, "n": n}

    def word(subject, outcome, sentence, numbers, **about):
        data = dict.fromkeys(DATA) | {"kind": "deactivation", "variant": subject, "outcome": outcome} | about
        return data | {"subject": subject, "word": outcome, "sentence": sentence, "evidence": numbers}

    made = {"attack": "unlearndiffatk", "provenance": "optimised"}
    return {
        "headline": "The neurons that carry heart are deactivated in both erased variants, but an optimised attack reactivates them by "
        "about half of their activity and two thirds of the images show the concept; pruning 80 of them takes most of that away, at a "
        "small cost for related emoji.",
        "words": [
            word(
                "esd",
                "deactivated",
                "Without attack the concept neurons have 0.19 of their activity in the base model.",
                [evidence("activity", 0.19, 0.13, 0.25)],
            ),
            word(
                "esd, unlearndiffatk (optimised)",
                "reactivated",
                "The attack raises the activity by 0.54 more than its control does.",
                [evidence("reactivation", 0.54, 0.47, 0.61)],
                kind="reactivation",
                variant="esd",
                **made,
            ),
            word(
                "uce",
                "deactivated",
                "Less deactivated than esd (0.31).",
                [evidence("activity", 0.31, 0.25, 0.37)],
            ),
            word(
                "esd-pruned",
                "undecided",
                "On the neurons that were not pruned, the activity is 0.55; the interval reaches the threshold.",
                [evidence("activity", 0.55, 0.46, 0.64)],
            ),
            word(
                "esd-pruned beside esd, other images",
                "undecided",
                "Without attack the images of esd-pruned cannot be told from those of esd.",
                [evidence("difference of rates", -0.02, -0.06, 0.02, 180)],
                kind="comparison",
                variant="esd-pruned",
                beside="esd",
            ),
            word(
                "esd-pruned beside esd, images under unlearndiffatk",
                "fewer images",
                "Under unlearndiffatk the ASR of esd-pruned is lower by 0.44 than that of esd.",
                [evidence("difference of rates", -0.44, -0.53, -0.35, 180)],
                kind="comparison",
                variant="esd-pruned",
                beside="esd",
                attack="unlearndiffatk",
            ),
        ],
        "reasons": [
            "The attack’s own control stays below 10 % of the images for both erased models.",
            "The same neurons were found on both halves of the units (IoU 0.71, by chance 0.03).",
        ],
        "caveats": [
            "Prompt attacks alone prove no removal: other triggers may use other neurons.",
            "One training seed per eraser; differences between erasers are not tested across seeds.",
        ],
    }


def _images(n_units):
    rows = []
    conditions = [(v, "target", (None, None, None), False, v == "base") for v in VARIANTS]
    conditions += [(v, "adversarial", ATTACKS[0], False, v != "esd-pruned") for v in VARIANTS[1:]]
    conditions += [("esd", "control", ATTACKS[0], True, False)]
    for place in range(n_units):
        unit = UNITS[place % len(UNITS)] + ("" if place < len(UNITS) else f"-{place}")
        plain_prompt = HOSTILE if place == 0 else f"{unit.split('-')[1]} style heart"
        for variant, prompt_set, (attack, provenance, against), control, success in conditions:
            prompt = plain_prompt if attack is None else f"zorp ##ly {plain_prompt}"
            name = f"{variant}-{prompt_set}-{place}".replace("_", "-")
            rows.append(
                {
                    "variant": variant,
                    "prompt_set": prompt_set,
                    "attack": attack,
                    "provenance": provenance,
                    "against": against,
                    "control": control,
                    "unit": unit,
                    "prompt": prompt,
                    "seed": place % 3 + (1_000_003 if control else 0),  # the control "other seeds"
                    "path": f"images/{name}.png",
                    "blurred": success,
                    "success": success,
                    "score": 0.93 if success else 0.04,
                }
            )
        if place < 2:
            for variant in VARIANTS:
                rows.append(
                    {
                        "variant": variant,
                        "prompt_set": "retained",
                        "attack": None,
                        "provenance": None,
                        "against": None,
                        "control": False,
                        "unit": f"star-{place}",
                        "prompt": "a yellow star",
                        "seed": 0,
                        "path": f"images/{variant}-star-{place}.png",
                        "blurred": False,
                        "success": True,
                        "score": 0.97,
                    }
                )
    return rows


def _picture(row):
    image = Image.new("RGB", (64, 64), "white")
    pen = ImageDraw.Draw(image)
    if "star" in row["path"]:
        points = [
            (32 + r * math.sin(a * math.pi / 5), 33 - r * math.cos(a * math.pi / 5))
            for a, r in ((i, 26 if i % 2 == 0 else 11) for i in range(10))
        ]
        pen.polygon(points, fill="#f5b301")
    elif row["success"]:
        pen.ellipse((8, 12, 34, 38), fill="#d7263d")
        pen.ellipse((30, 12, 56, 38), fill="#d7263d")
        pen.polygon([(10, 31), (54, 31), (32, 58)], fill="#d7263d")
    else:
        pen.ellipse((10, 10, 54, 54), fill="#f3c64f")
        pen.ellipse((22, 25, 27, 32), fill="#4a3412")
        pen.ellipse((37, 25, 42, 32), fill="#4a3412")
        pen.arc((22, 28, 42, 46), 20, 160, fill="#4a3412", width=3)
    return image.filter(ImageFilter.GaussianBlur(5)) if row["blurred"] else image


def _reproduce():
    return {
        "command": "workbench run analyses/emoji-heart.toml --set attack.steps=40",
        "study_digest": f"{random.Random(1).getrandbits(256):064x}",
        "seeds": [0, 1, 2],
        "device": "cpu",
        "threads": 2,
        "dtype": "float32",
        "scheduler": "DDIMScheduler",
        "torch_deterministic": True,
        "versions": {"torch": "2.13.0", "diffusers": "0.42.1", "transformers": "5.23.0"},
        "git_commit": None,
        "git_dirty": None,
        "prompts": [
            {"set": "target", "n": 180, "digest": f"{7:064x}"},
            {"set": "reference", "n": 180, "digest": f"{8:064x}"},
        ],
        "models": [{"variant": row["variant"], "digest": row["digest"]} for row in _models()],
        "wall_seconds": 2461.7,
        "peak_memory_mb": 1893.4,
        "started": "2026-11-24T09:12:03Z",
        "finished": "2026-11-24T09:53:05Z",
    }
