"""Erasers, attacks, detectors and scores: one file per method; the four never import each other."""
