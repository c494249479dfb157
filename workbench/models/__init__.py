"""Models: loading, text states, variants, masks."""
