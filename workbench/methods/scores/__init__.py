"""Scores: which neurons carry the concept?"""
