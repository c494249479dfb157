"""report.html: one file that opens offline, years later, and asks nothing of any network."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from workbench.errors import RunError
from workbench.report import analysis_views, choice_views, figures, image_views, images, region_views, set_views, views, wording
from workbench.report.alt import ALT
from workbench.report.plane_figures import plane_points

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    # blob: is how plotly.js saves a figure as PNG; it stays on the reader's machine.
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)
MEGABYTE = 1_000_000


def render_html(document, folder, neurons=(), max_mb=10):
    """The report as one HTML text of at most max_mb megabytes (10^6 bytes).

    neurons   rows of neurons.parquet
    Rows of the image matrix and pictures of regions are left out until the file fits; the report says how many.
    The same document and files give the same bytes.
    """
    budget = max_mb * MEGABYTE
    context = _context(document, list(neurons))
    blocks = images.matrix(document)
    total = sum(len(block["rows"]) for block in blocks)
    bare = _render(context, blocks, {}, [0] * len(blocks), total)
    if len(bare) > budget:
        raise RunError(
            f"A report of at most {max_mb} MB was asked for; without any image it has "
            f"{len(bare) / MEGABYTE:.1f} MB ({len(get_plotlyjs()) / MEGABYTE:.1f} MB of it are "
            "plotly.js). Allow more with max_mb, or write the Markdown report."
        )
    # a third of what is left at most, so that they never push out the images
    regions = region_views.fitting(document, folder, min(region_views.ROOM, (budget - len(bare)) // 3))
    context["regions"] = dict(zip(("cards", "pixels", "left_out"), regions, strict=False))
    pixels, kept = _fitting(blocks, folder, budget - len(bare) - regions[-1])
    while True:
        page = _render(context, blocks, pixels, kept, total - sum(kept))
        if len(page) <= budget or not any(kept):
            return page.decode("utf-8")
        last = max(place for place, count in enumerate(kept) if count)
        kept[last] -= 1


def _fitting(blocks, folder, room):
    """(pixels by path, rows kept per block): rows are taken in turn while their images fit."""
    pixels, kept = {}, [0] * len(blocks)
    turns = sorted((place, number) for number, block in enumerate(blocks) for place in range(len(block["rows"])))
    for place, number in turns:
        row = blocks[number]["rows"][place]
        paths = [image["path"] for cell in row["cells"] for image in cell]
        new = {path: images.data_uri(folder, path) for path in paths if path not in pixels}
        room -= sum(len((new | pixels)[path]) + 600 for path in paths)
        if room < 0:
            break
        pixels |= new
        kept[number] += 1
    return pixels, kept


def _render(context, blocks, pixels, kept, left_out):
    shown = [block | {"rows": block["rows"][:count]} for block, count in zip(blocks, kept, strict=True) if count]
    page = _environment().get_template("report.html.j2")
    return page.render(**context, blocks=shown, pixels=pixels, left_out=left_out).encode("utf-8")


@cache
def _environment():
    environment = Environment(
        loader=PackageLoader("workbench.report.renderers", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=wording.number, integer=wording.integer)
    environment.globals.update(
        percent=wording.percent,
        number=wording.number,
        span=wording.span,
        provenance=wording.provenance,
        mood=wording.mood,
        neuron_set=lambda row: wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"]),
    )
    return environment


def _context(document, neurons):
    study = document["study"]
    return {
        "document": document,
        "study": study,
        "concept": study["concept"].get("name", "the concept"),
        "verdict": document["verdict"],
        "policy": POLICY,
        "plotly": Markup(get_plotlyjs()),
        "note": wording.model_note(study),
        "thresholds": wording.thresholds(study),
        "boards": _boards(document),
        "other_words": _other_words(document),
        "views": views,
        "image_views": image_views,
        "analysis_views": analysis_views,
        "choice_views": choice_views,
        "regions": {"cards": [], "pixels": {}, "left_out": 0},
        "set_views": set_views,
        "top_attributed": analysis_views.top_attributed(neurons),
        "evidence": views.evidence,
        "figures": _figures(document, neurons),
        "top": views.top_neurons(neurons, document) if neurons else None,
        "missing": views.missing(document),
        "blurred": any(image["blurred"] for image in document["images"]),
    }


def _other_words(document):
    """The words of the verdict that stand on no variant's board."""
    on_boards = [id(word) for variant in wording.subjects(document) for word in wording.own_words(document, variant)]
    return [word for word in document["verdict"]["words"] if id(word) not in on_boards]


def _boards(document):
    """The number cards of each variant, and the words of the verdict about it without attack."""
    roles = {row["variant"]: row for row in document["models"]}
    boards = []
    for variant in wording.subjects(document):
        picked = wording.cards(document, variant)
        boards.append(
            {
                "variant": variant,
                "role": roles[variant]["role"],
                "parent": roles[variant]["parent"],
                "method": roles[variant]["method"],
                "words": wording.own_words(document, variant),
                **picked,
                "gauges": {name: _gauge(picked[name], picked.get(f"{name}_base")) for name in ("erasure", "retention", "reactivation")},
            }
        )
    return boards


def _gauge(row, base):
    """Where value, interval and the base model's mark stand on a bar, in per cent of its width."""
    field = "rate" if row and "rate" in row else "value"
    least, most = (0, 1) if field == "rate" else (-0.25, 1.25)
    words = ("0", "100 %") if field == "rate" else ("0, none", "1, all of it")
    if row is None or row[field] is None:
        return None

    def at(value):
        return round(100 * (min(max(value, least), most) - least) / (most - least), 2)

    low, high = (row[field] if row[name] is None else row[name] for name in ("low", "high"))
    return {
        "at": at(row[field]),
        "low": at(low),
        "width": round(at(high) - at(low), 2),
        "base": at(base[field]) if base and base[field] is not None else None,
        "zero": at(0) if least < 0 else None,
        "ends": ((at(0), words[0]), (at(1), words[1])),
    }


def _figures(document, neurons):
    """Figures by section: lists of {id, title, alt, html}."""
    variants = wording.variant_names(document)
    drawn = {}

    def add(section, name, title, *arguments, **options):
        figure = getattr(figures, name)(*arguments, **options)
        options.pop("webgl", None)
        there = drawn.setdefault(section, [])
        html = fragment(figure, f"figure-{section}-{len(there)}")
        alt = ALT[name](*arguments, **options)
        there.append({"title": title, "alt": alt, "html": Markup(html)})

    if document["rates"]:
        add("rates", "rates_figure", "How often the concept appears", document["rates"], variants)
    if document["budget"]:
        add("budget", "budget_figure", "How far a search must go: success in the steering detector", document["budget"], variants)
    if document["retention"]:
        add(
            "retention",
            "retention_figure",
            "How often other things are still drawn right",
            document["retention"],
            variants,
        )
    points = plane_points(document)
    if len({point["variant"] for point in points}) > 1:
        add("retention", "plane_figure", "How often the concept is seen against what still works", points, variants)
    for trajectory in _present(wording.shown(document, "activity"), "trajectory"):
        add(
            "activity",
            "activity_figure",
            f"Activity {wording.TRAJECTORIES.get(trajectory, trajectory)}",
            wording.shown(document, "activity"),
            variants,
            trajectory,
        )
    if wording.shown(document, "effects"):
        add("effects", "effects_figure", "What each step did", wording.shown(document, "effects"), variants)
    by_call = document["activity_by_call"]
    for neuron_set in _present(by_call, "neuron_set"):
        for trajectory in _present(by_call, "trajectory"):
            rows = [row for row in by_call if (row["neuron_set"], row["trajectory"]) == (neuron_set, trajectory)]
            if rows:
                name = wording.NEURON_SETS.get(neuron_set, neuron_set)
                place = wording.TRAJECTORIES.get(trajectory, trajectory)
                add(
                    "calls",
                    "activity_by_call_figure",
                    f"{name[0].upper()}{name[1:]}, {place}",
                    rows,
                    variants,
                    document["study"]["window"],
                )
    if wording.shown(document, "neurons"):
        add("neurons", "shares_figure", "Silenced and woken", wording.shown(document, "neurons"), variants)
    for variant in wording.subjects(document):
        points = wording.drawn_neurons(neurons, variant)
        if points:
            title = f"Each point is one neuron: {variant}"
            limits = wording.thresholds(document["study"])
            add("points", "neurons_figure", title, points, variant, thresholds=limits, webgl=False)
    _analysis_figures(add, document, neurons, variants)
    return drawn


def _analysis_figures(add, document, neurons, variants):
    """Figures about attribution, clusters and ablation, where the study asked for them."""
    if document["attribution"]:
        add("attribution", "attribution_figure", "How much goes through the concept neurons", document["attribution"], variants)
    points = [neuron for neuron in neurons if neuron.get("cluster_x") is not None]
    if points:
        add("clusters", "cluster_map_figure", "Which neurons are alike", points, webgl=False)
    plain = [row for row in document["cluster_profiles"] if not row["control"]]
    if plain:
        add("clusters", "cluster_profiles_figure", "What each cluster does along the sampling run", plain, variants)
    if any(row["effect"] != "sensitivity" for row in document["cluster_effects"]):
        add("clusters", "cluster_effects_figure", "What erasing and attacks do to each cluster", document["cluster_effects"], variants)
    if any(row["effect"] != "sensitivity" for row in document["set_effects"]):
        add("sets", "named_effects_figure", "What erasing and attacks do to each set", document["set_effects"], variants)
    if document["ablation"]:
        add("ablation", "ablation_figure", "The more is taken out", document["ablation"], variants)
    for table, title in (
        ("leave_one_out", "What each cluster adds"),
        ("greedy", "Which clusters first"),
        ("shapley", "Whose change it is: Shapley values of the clusters"),
        ("necessity", "Held as without the attack: does the concept go again?"),
        ("sufficiency", "Given the base model's values: does the concept return?"),
        ("set_ablation", "Named sets taken out"),
    ):
        if document[table]:
            add("ablation", "set_effects_figure", title, document[table], variants)


def fragment(figure, name):
    """A figure as HTML without plotly.js; the only place where figures become HTML."""
    return to_html(
        figure,
        include_plotlyjs=False,
        full_html=False,
        div_id=name,
        config=figures.CONFIG,
        default_width="100%",
    )


def _present(rows, column):
    """Values of a column; "reference" latents first, as the headline numbers are read there."""
    values = list(dict.fromkeys(row[column] for row in rows))
    return sorted(values, key=lambda value: value != "reference")
