"""The report: one self-contained HTML page to explore many runs."""
