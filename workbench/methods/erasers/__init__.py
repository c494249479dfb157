"""Erasers: how a concept is removed; each returns changed weights or a mask."""
