"""The demonstration: generated scenes, and pictures of what was learnt on them."""
