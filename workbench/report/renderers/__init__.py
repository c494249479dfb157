"""What report.json becomes: HTML, Markdown, CSV."""
