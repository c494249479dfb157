"""Neurons: where they are, how they are recorded and gated, sets of them."""
