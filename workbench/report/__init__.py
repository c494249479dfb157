"""The report of a run: one canonical report.json, and what renders it.

document    schema of report.json: tables, columns, checks, deterministic JSON
summary     picks and words: headline numbers, labels of conditions, formatted numbers
figures     rows -> plotly figures;  alt: the same rows -> a sentence
views       rows -> the tables a reader sees, shared by HTML and Markdown
tables      rows -> CSV with the canonical columns, and back
html, markdown, render   the files in the report folder
"""
