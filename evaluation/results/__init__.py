"""`result.json`: its schema, and reading it."""
