"""Several processes that are one run: which is which, how they meet, start again and end."""
