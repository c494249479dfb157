"""Stages: one module per kind of node, each with what it computes and what the report says of it."""
