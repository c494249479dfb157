"""Rows of report.json, a file per part of the report."""
