"""Configs: read, overridden and checked before anything is built from them."""
