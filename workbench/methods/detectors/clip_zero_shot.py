"""CLIP zero-shot: which of a set of prompts describes the image best, by any CLIP model in a local folder."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workbench.errors import MethodError, ModelError, first_line
from workbench.study.fields import NonEmpty

CITATIONS = ("radford2021learning",)
NONE = "none"


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    model: NonEmpty = Field(description="transformers folder with a CLIP model, e.g. a local copy of openai/clip-vit-large-patch14")
    positive: dict[NonEmpty, list[str]] = Field(min_length=1, description="label -> prompts that describe it; labels exclude each other")
    negative: list[str] = Field(min_length=1, description="prompts for images without any of the labels")
    threshold: float = Field(0.5, gt=0, le=1, description="probability from which a label counts as present")

    @model_validator(mode="after")
    def _prompts_fit_together(self):
        if NONE in self.positive:
            raise ValueError(f'"{NONE}" is what the negative prompts are called; name the label otherwise')
        prompts = [prompt for group in (*self.positive.values(), self.negative) for prompt in group]
        for label, group in self.positive.items():
            if not group:
                raise ValueError(f'the label "{label}" has no prompt; give it at least one')
        for prompt in prompts:
            if not prompt.strip():
                raise ValueError("a prompt is empty; write what it should describe")
            if prompts.count(prompt) > 1:
                raise ValueError(f'the prompt "{prompt}" stands twice; keep one')
        return self


class Clip:
    """A CLIP model in a local folder: images and texts in, vectors of one space out.

    image_features   images (n, 3, height, width) in [0, 1] -> (n, channel), differentiable
    text_features    list of n texts -> (n, channel)
    scale            the factor the model was trained to put on cosines
    version          digest of config and weights

    Raises   ModelError when the folder holds no complete CLIP model with tokenizer and preprocessing
    """

    def __init__(self, folder):
        from transformers import AutoTokenizer

        from workbench.methods.detectors import Preprocess, model_digest, model_folder, pretrained

        self.folder = model_folder(folder, "clip")
        self.model = pretrained("CLIPModel", self.folder)
        self.preprocess = Preprocess(self.folder)
        # without these files transformers makes up a tokenizer of three tokens and says nothing
        if not any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise ModelError(f"{self.folder} has no tokenizer (tokenizer.json or vocab.json); save the model's tokenizer there.")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the tokenizers library raises nothing more special
            raise ModelError(f"{self.folder} has a tokenizer that cannot be read ({first_line(error)}). Save it there again.") from error
        self.context = self.model.config.text_config.max_position_embeddings
        self.scale = float(self.model.logit_scale.exp())
        self.version = model_digest(self.folder)

    def image_features(self, images):
        return self.model.get_image_features(pixel_values=self.preprocess(images)).pooler_output

    def text_features(self, texts):
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.context, return_tensors="pt")
        return self.model.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output

    def n_cut(self, texts):
        """How many tokens each text loses to the context length; list of int."""
        return [max(0, len(ids) - self.context) for ids in self.tokenizer(list(texts)).input_ids]


def load(parameters):
    """Read the model and encode the prompts.

    p(prompt | image) = softmax over all prompts of  scale * cos(image, prompt);   p(label) = sum over the label's prompts

    The label "none" is the sum over the negative prompts. A label with more prompts starts with more of the probability: give
    all of them about as many.

    Raises   ModelError when the folder cannot be used; MethodError when a prompt is longer than the model's context
    Source   Radford et al. 2021, arXiv 2103.00020, section 3.1
    """
    import torch
    from torch.nn.functional import normalize

    from workbench.methods.detectors import Detector
    from workbench.storage import digest

    clip = Clip(parameters.model)
    groups = {**parameters.positive, NONE: parameters.negative}
    prompts = [prompt for group in groups.values() for prompt in group]
    for prompt, cut in zip(prompts, clip.n_cut(prompts), strict=True):
        if cut:
            raise MethodError(f'The prompt "{prompt}" is {cut} tokens longer than the {clip.context} the model reads; shorten it.')
    with torch.no_grad():
        texts = normalize(clip.text_features(prompts), dim=1)
    member = torch.tensor([[float(prompt in group) for group in groups.values()] for prompt in prompts])

    def probabilities(images):
        cosines = normalize(clip.image_features(images), dim=1) @ texts.T
        return (clip.scale * cosines).softmax(dim=1) @ member

    labels = list(groups)
    version = f"clip_zero_shot {clip.version} prompts {digest(groups)[:12]} {', '.join(labels)} >= {parameters.threshold:g}"
    thresholds = dict.fromkeys(labels, parameters.threshold)
    return Detector("clip_zero_shot", version, labels, thresholds, probabilities, clip.image_features)
