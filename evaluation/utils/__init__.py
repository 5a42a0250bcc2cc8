"""General utilities: files, errors, processes, memory."""
