"""How accurate a model stays on images that an attack or a bad camera changed."""
