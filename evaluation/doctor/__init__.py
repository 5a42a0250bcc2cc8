"""Facts about a machine and its environment, and advice on what is broken or slow.

Works in broken environments: only the probe imports torch and OpenMMLab packages.
"""
