"""Predictions in the files that evaluation servers take, for test sets with or without truth."""
