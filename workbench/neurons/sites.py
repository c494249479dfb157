"""Where neurons are: a site is a kind of place, a layer a module path, a neuron (layer, index).

ff           GEGLU hidden units: the input of `...ff.net.2`; tokens are spatial positions
attn_value   values of cross-attention: the output of `...attn2.to_v`; tokens are those of the text
conv         channels of the ResNet convolutions: the output of `...resnets.N.conv1` and `conv2`; tokens are spatial positions
update       what a transformer block adds to the stream: the output minus the input of `...attentions.N`
text_mlp     hidden units of the text encoder: the input of `...mlp.fc2`; it runs once per prompt, so that its values are the same
             at every call

Text tokens all count, padding included: cross-attention reads every position, and in CLIP those after the prompt carry it too.
"""

import re
from dataclasses import dataclass

from workbench.errors import ModelError, nearest


@dataclass(frozen=True)
class Site:
    """pattern of module paths; which tensor is read (`input`, `output` or `update`); its neuron axis; part of the model."""

    name: str
    pattern: str
    reads: str
    neuron_axis: int
    help: str
    part: str = "unet"

    @property
    def weighed(self):
        """Whether the module is the linear layer that reads the neurons, so that each has a column of weights."""
        return self.reads == "input"


SITES = {
    site.name: site
    for site in (
        Site("ff", r"ff\.net\.2$", "input", -1, "hidden units of the feed-forward (GEGLU output)"),
        Site("attn_value", r"attn2\.to_v$", "output", -1, "values of cross-attention, one row per text token"),
        Site("conv", r"resnets\.\d+\.conv[12]$", "output", 1, "output channels of the ResNet convolutions"),
        Site("update", r"attentions\.\d+$", "update", 1, "what a transformer block adds to the stream"),
        Site("text_mlp", r"mlp\.fc2$", "input", -1, "hidden units of the text encoder, once per prompt", "text_encoder"),
    )
}
WIDTH = {
    "input": lambda module: module.in_features,
    "output": lambda module: module.out_features if hasattr(module, "out_features") else module.out_channels,
    "update": lambda module: module.config.in_channels,
}


@dataclass(frozen=True)
class Layer:
    """One module where neurons are recorded: its path, site and number of neurons."""

    path: str
    site: Site
    n_neurons: int


def layers(unet, site_names, text_encoder=None):
    """All layers of the named sites, in order of module name.

    text_encoder   needed for the site `text_mlp` only; its layers are tapped by `TextTaps`, those of the UNet by `Taps`
    Raises         ModelError for an unknown site, or when the model has no layer of it
    """
    parts, found = {"unet": unet, "text_encoder": text_encoder}, []
    for name in site_names:
        if name not in SITES:
            raise ModelError(f'No site is called "{name}".{nearest(name, SITES)}')
        site = SITES[name]
        if parts[site.part] is None:
            raise ModelError(f'The site "{name}" is in the text encoder, which was not given. Pass it as text_encoder.')
        modules = parts[site.part].named_modules()
        own = [Layer(path, site, WIDTH[site.reads](module)) for path, module in modules if re.search(site.pattern, path)]
        if not own:
            whole = site.part.replace("_", " ").replace("unet", "UNet")
            raise ModelError(f'This {whole} has no layer of the site "{name}" (module paths {site.pattern}).')
        found += own
    return found


def reading_weights(layers, unet, text_encoder=None):
    """{layer path: (output, neuron) float32 array} of the linear layers that read neurons; other sites are left out."""
    parts = {"unet": unet, "text_encoder": text_encoder}
    modules = {name: dict(part.named_modules()) for name, part in parts.items() if part is not None}
    return {
        layer.path: modules[layer.site.part][layer.path].weight.detach().float().cpu().numpy() for layer in layers if layer.site.weighed
    }
