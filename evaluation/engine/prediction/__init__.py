"""Predictions of a trained model on the user's own images."""
