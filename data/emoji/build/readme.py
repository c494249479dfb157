"""Write data/emoji/README.md: licences, attributions, checksums, measured quality; from what is on disk."""

import hashlib
import json

from artwork import EMOJI, PACKAGES, concepts, fetch_icons, held_out

AUTHORS = {
    "noto": ("Google Inc", "Apache-2.0", "Noto Emoji"),
    "twemoji": ("Twitter", "CC-BY-4.0", "Twemoji"),
    "fluent-emoji": ("Microsoft Corporation", "MIT", "Fluent Emoji"),
    "fluent-emoji-high-contrast": ("Microsoft Corporation", "MIT", "Fluent Emoji High Contrast"),
    "emojione": ("Emoji One", "CC-BY-4.0", "Emoji One (Colored)"),
}
WANTED = {
    "object_trained": 0.90,
    "style_trained": 0.95,
}


def main():
    """Everything measured is read from quality.json and detectors.json."""
    spec, quality = concepts(), json.loads((EMOJI / "quality.json").read_text())
    card = json.loads((EMOJI / "detectors.json").read_text())
    fetch_icons()
    lines = [
        "# The bundled emoji model",
        "",
        "A genuine Stable Diffusion pipeline in miniature (64 x 64 pixels, 16 x 16 x 4 latents, 8.8 M parameters in the UNet), trained on openly",
        f"licensed emoji: {len(spec['objects'])} objects drawn by {len(spec['styles'])} artists. It demonstrates and tests the mechanism; it is no evidence",
        "about Stable Diffusion. `concepts.toml` lists every word it was taught. Rebuild with `make emoji` (resumes; about 2 h 35 min on 2 cores).",
        "",
        "## Artwork, licences, attribution",
        "",
        "| style | artwork | by | licence | npm package |",
        "|---|---|---|---|---|",
    ]
    for style, entry in spec["styles"].items():
        by, licence, title = AUTHORS[entry["package"]]
        package = entry["package"]
        lines.append(f"| {style} | {title} | {by} | {licence} | `@iconify-json/{package}` {PACKAGES[package]} |")
    lines += [
        "",
        "The images were rendered, moved and scaled a little; the model's pictures are derived from them. The artwork itself is not in this",
        "repository, only at build time.",
        "",
        "## Quality, measured by `data/emoji/build/quality.py`",
        "",
        f"Generated images: all (object, style) pairs, 2 seeds, 25 steps, guidance 5; n = {quality['n_trained']} of trained and {quality['n_held_out']} of held-out pairs.",
        f"{quality['seconds_per_image_in_batches']} s an image on 2 cores in batches of 25.",
        "",
        "| measure | wanted | steer | judge |",
        "|---|---|---|---|",
    ]
    for key, wanted in WANTED.items():
        lines.append(
            f"| right {key.replace('_', ', ')} pairs | {wanted:.2f} | {quality['steer_' + key]:.3f} | {quality['judge_' + key]:.3f} |"
        )
    for key in ("object_held_out", "style_held_out"):
        lines.append(
            f"| right {key.replace('_', ' ', 1).replace('held_out', ', held-out')} pairs | | {quality['steer_' + key]:.3f} | {quality['judge_' + key]:.3f} |"
        )
    for key in ("object", "style", "none"):
        lines.append(
            f"| detector on fresh augmentations: {key} | 0.97 | {card['steer']['accuracy'][key]:.3f} | {card['judge']['accuracy'][key]:.3f} |"
        )
    lines += [
        "",
        f"Held out of training ({len(held_out())} pairs): " + ", ".join(f"{o}/{s}" for o, s in sorted(held_out())) + ".",
        "",
        "## Checksums (sha256)",
        "",
    ]
    for path in sorted(p for p in EMOJI.glob("**/*.safetensors") if "build" not in p.parts):
        lines.append(f"- `{path.relative_to(EMOJI)}` {hashlib.sha256(path.read_bytes()).hexdigest()}")
    (EMOJI / "README.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
