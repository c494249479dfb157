"""Executing a study: plan, stages, run folder."""
