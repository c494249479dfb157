"""The report of a run: one canonical report.json, and what is shown of it.

document            report.json read, upgraded, checked and written
section, table      how a section, its tables and its figures are declared;  sections/   the sections, one module each
content, headline   which rows are shown, in which order, and first;  wording, looks   words, number formats, colours and symbols
charts/             drawing primitives;  renderers/   HTML, Markdown, CSV
compare             finished reports held against a limit or against each other
"""
