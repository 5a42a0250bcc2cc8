"""Demonstration of the whole suite on generated scenes."""
