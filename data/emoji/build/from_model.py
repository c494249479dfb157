"""Fill cache/ from the shipped model, as if VAE, detectors and all rounds but the last had just been trained.

For a further round without repeating the first ones: append a Round to ROUNDS in unet.py, then
`python from_model.py && python build.py`. The weights are the shipped fp16 ones, the optimisers start fresh.
"""

import torch
import unet
import vae
from artwork import CACHE, EMOJI, Artwork
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from tokenizer import build as build_tokenizer


def main():
    """Write cache/vae.pt, unet.pt, detector-*.pt, latents.pt and the tokenizer."""
    art = Artwork.load()
    pipeline = StableDiffusionPipeline.from_pretrained(EMOJI / "model", torch_dtype=torch.float32, safety_checker=None)
    optimiser = torch.optim.AdamW(pipeline.vae.parameters(), lr=vae.RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, vae.RATE, total_steps=vae.STEPS, pct_start=0.1)
    state = {"model": pipeline.vae.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(), "step": vae.STEPS}
    torch.save(state, CACHE / "vae.pt")
    parameters = [p.detach() for p in (*pipeline.unet.parameters(), *pipeline.text_encoder.parameters())]
    done = len(unet.ROUNDS) - 2
    torch.save(
        {
            "round": done,
            "step": unet.ROUNDS[done].steps,
            "parameters": parameters,
            "average": parameters,
            "optimiser": torch.optim.AdamW(parameters).state_dict(),
        },
        CACHE / "unet.pt",
    )
    for which in ("steer", "judge"):
        stored = load_file(EMOJI / f"detector-{which}.safetensors")
        floats = {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
        torch.save(floats, CACHE / f"detector-{which}.pt")
    unet.cache_latents(pipeline.vae.eval(), art)
    build_tokenizer(CACHE / "tokenizer")


if __name__ == "__main__":
    main()
