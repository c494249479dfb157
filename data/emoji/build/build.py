"""Build everything of data/emoji: `make emoji`. Finished steps are kept in cache/, so that running again resumes."""

import json
import shutil
import sys
import time

import detectors
import prompts
import quality
import readme
import torch
import unet
from artwork import CACHE, EMOJI


def log(message):
    """Progress with the time of day."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {message}\n")
    sys.stdout.flush()


def main():
    """VAE, UNet and text encoder, detectors, prompt sets, quality."""
    prompts.main()
    pipeline = unet.train(log)
    vae = pipeline.vae
    detectors.train(vae, log)
    pipeline.to(dtype=torch.float16).save_pretrained(EMOJI / "model")
    # a tokenizer that has been called keeps its padding in its file; the plain one is in the cache
    shutil.copytree(CACHE / "tokenizer", EMOJI / "model" / "tokenizer", dirs_exist_ok=True)
    log("model saved")
    found = quality.measure(EMOJI / "model", log)
    (EMOJI / "quality.json").write_text(json.dumps(found, indent=1) + "\n")
    readme.main()
    log(json.dumps(found))


if __name__ == "__main__":
    main()
