"""The report of a run: one canonical report.json, and what renders it.

fields      what report.json holds: tables, columns, kinds
document    report.json checked, read and written, as deterministic JSON
summary     picks and words: headline numbers, labels of conditions, formatted numbers
figures     rows -> plotly figures, forest plots and lines;  alt: the same rows -> a sentence
views       rows -> the tables a reader sees, shared by HTML and Markdown;  image_views: those of detectors and images
tables      rows -> CSV with the canonical columns, and back
html, markdown, render   the files in the report folder
"""
