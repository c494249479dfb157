"""A live session, cell by cell: run it whole (`python docs/guides/lab_session.py`), or in an editor that runs `# %%` cells.

It opens the example run, ablates the concept neurons of three models, compares them with a random set of the same size, and attacks.
"""

# %% The example run: the base model, erased (ESD) and pruned
import numpy as np

import workbench
from workbench.lab import NeuronAblation

lab = workbench.Lab("example")
print(lab.variants)
rows = lab.prompts("target", 4)
asked = rows.prompts, rows.seeds

# %% Which neurons? Those that the study chose in the base model, and as many others in each layer
concept = lab.neurons("concept")
rng = np.random.default_rng(0)
sizes = {layer.path: layer.n_neurons for layer in lab.layers}
others = {
    path: sorted(rng.choice(np.setdiff1d(np.arange(sizes[path]), chosen), len(chosen), replace=False).tolist())
    for path, chosen in concept.items()
}

# %% What does setting them to 0 do to the images, to the prediction, and to the neurons?
for variant in lab.variants:
    for name, neurons in (("concept neurons", concept), ("random neurons", others)):
        off = NeuronAblation(neurons, "zero")
        before, after = (lab.found(lab.images(*asked, variant, change))[1].mean() for change in (None, off))
        target = [lab.target(*asked, variant, change).mean() for change in (None, off)]
        print(f"{variant:8} {name:16} judge {before:.2f} -> {after:.2f}   T2 {target[0]:.2f} -> {target[1]:.2f}   (n = {len(rows)} images)")

# %% How strongly? A dose-response curve of the erased model, by hand
for strength in (0.25, 0.5, 0.75, 1.0):
    half = NeuronAblation(concept, "zero", strength)
    print(f"strength {strength:.2f}: T2 {lab.target(*asked, 'erased', half).mean():.2f}")

# %% Give the erased model the base model's values of these neurons: does the concept return?
patched = NeuronAblation(concept, "patch")
print("patched", lab.found(lab.images(*asked, "erased", patched))[1].mean(), lab.target(*asked, "erased", patched).mean())

# %% Attack the erased model as it is, and with the neurons held at 0
for name, change in (("as it is", None), ("neurons at 0", NeuronAblation(concept, "zero"))):
    vectors = lab.attack(*asked, "erased", change, iterations=10)
    seen = lab.found(lab.images(*asked, "erased", change, vectors))[0]
    print(f"attacked {name}: concept in {int(seen.sum())} of {len(seen)} images")
