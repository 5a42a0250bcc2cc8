"""COCO's average precision, by the reference implementation or by a faster one with its figures."""
