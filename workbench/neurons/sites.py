"""Where neurons are: a site is a kind of place, a layer a module path, a neuron (layer, index).

ff       GEGLU hidden units: the input of `...ff.net.2`
update   what a transformer block adds to the stream: the output minus the input of `...attentions.N`
"""

import re
from dataclasses import dataclass

from workbench.errors import ModelError, nearest


@dataclass(frozen=True)
class Site:
    """pattern of module paths; which tensor is read (`input` or `update`); which axis holds the neurons."""

    name: str
    pattern: str
    reads: str
    neuron_axis: int
    help: str


SITES = {
    site.name: site
    for site in (
        Site("ff", r"ff\.net\.2$", "input", -1, "hidden units of the feed-forward (GEGLU output)"),
        Site("update", r"attentions\.\d+$", "update", 1, "what a transformer block adds to the stream"),
    )
}


@dataclass(frozen=True)
class Layer:
    """One module where neurons are recorded: its path, site and number of neurons."""

    path: str
    site: Site
    n_neurons: int


def layers(unet, site_names):
    """All layers of the named sites, in order of module name.

    Raises   ModelError for an unknown site, or when a UNet has no layer of it
    """
    found = []
    for name in site_names:
        if name not in SITES:
            raise ModelError(f'No site is called "{name}".{nearest(name, SITES)}')
        site = SITES[name]
        own = [Layer(path, site, _width(module)) for path, module in unet.named_modules() if re.search(site.pattern, path)]
        if not own:
            raise ModelError(f'This UNet has no layer of the site "{name}" (module paths {site.pattern}).')
        found += own
    return found


def _width(module):
    """Number of neurons: input width of a linear layer, channels of a transformer block."""
    if hasattr(module, "in_features"):
        return module.in_features
    return module.config.in_channels
