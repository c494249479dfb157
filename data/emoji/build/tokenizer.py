"""A CLIPTokenizer with its own BPE vocabulary in which every word of the captions is one token, and many of other icons' names."""

import json
import re
import shutil
from itertools import product

from artwork import EMOJI, concepts, fetch_icons, with_article
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def captions():
    """All phrases of the training."""
    spec = concepts()
    lines = []
    objects = [with_article(name, entry.get("plural", False)) for entry in spec["objects"].values() for name in entry["names"]]
    styles = [name for entry in spec["styles"].values() for name in entry["names"]]
    for template in sum(spec["templates"].values(), []):
        lines += [template.format(object=o, style=s) for o, s in product(objects, styles)]
    return lines


def corpus():
    """The captions, the paraphrases, and the words of the icons' names: what the merges are learnt from."""
    lines = captions() + [word for names in concepts()["paraphrases"].values() for word in names]
    for icons in fetch_icons().values():
        lines += [" ".join(re.findall("[a-z]{3,}", name)) for name in icons["icons"]][:2000]
    return lines


def shipped():
    """The tokenizer of data/emoji/model if every word of the captions is one of its tokens, else None."""
    if not (EMOJI / "model" / "tokenizer" / "tokenizer.json").exists():
        return None
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI / "model" / "tokenizer")
    words = {word for line in captions() for word in re.findall("[a-z]+", line)}
    return tokenizer if all(len(tokenizer.tokenize(word)) == 1 for word in words) else None


def build(folder):
    """Save a CLIPTokenizer folder: the shipped one while it fits, because `tokenizers` breaks ties of equally frequent
    pairs at random and a retrained one would number its tokens differently; else byte tokens, then trained merges, then
    the two special ones.
    """
    if tokenizer := shipped():
        shutil.copytree(EMOJI / "model" / "tokenizer", folder, dirs_exist_ok=True)
        return tokenizer
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=3000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(corpus(), trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [letter + "</w>" for letter in letters]
    tokens += [a + b for a, b in merges]
    tokens = list(dict.fromkeys(tokens)) + [START, END]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=77,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer
