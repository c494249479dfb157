"""Train the autoencoder: 64 x 64 pixels to 16 x 16 x 4 latents. Resumes from cache/vae.pt."""

import time

import torch
from artwork import CACHE, Artwork, augment
from diffusers import AutoencoderKL

STEPS, BATCH, RATE = 1300, 16, 2e-3


def new_vae():
    """The architecture; a plain diffusers AutoencoderKL."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=64,
        mid_block_add_attention=False,
    )


def gradient_l1(a, b):
    """Mean absolute difference of horizontal and vertical pixel differences: keeps edges sharp."""
    across = (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean()
    down = (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()
    return across + down


def train(log=print):
    """Train to STEPS, saving every 100 steps; returns the model with its scaling factor set."""
    torch.manual_seed(0)
    art = Artwork.load()
    # the 50 objects weigh as much as the 500 other names together
    own = art.images.flatten(0, 1)
    pool = torch.cat([own.repeat(max(1, len(art.others) // len(own) // 2), 1, 1, 1), art.others])
    vae = new_vae().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=0.1)
    path, first = CACHE / "vae.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        vae.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        first = saved["step"]
    began = time.time()
    for step in range(first, STEPS):
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(len(pool), (BATCH,), generator=generator)
        pixels = augment(pool[rows], generator, flip=0.5).to(memory_format=torch.channels_last)
        posterior = vae.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = (
            (decoded - pixels).abs().mean()
            + 0.5 * gradient_l1(decoded, pixels)
            + (decoded - pixels).square().mean()
            + 2e-4 * posterior.kl().mean() / posterior.mean[0].numel()
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == STEPS or step == first + 9:
            pace = (time.time() - began) / (step + 1 - first)
            log(f"vae step {step + 1}/{STEPS} loss {loss.item():.4f} {pace:.2f} s a step")
            state = {
                "model": vae.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step + 1,
            }
            torch.save(state, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
    vae.eval()
    with torch.no_grad():
        latents = vae.encode(augment(own, torch.Generator().manual_seed(1))).latent_dist.mean
    vae.register_to_config(scaling_factor=1 / latents.std().item())
    return vae.requires_grad_(False)


if __name__ == "__main__":
    train()
