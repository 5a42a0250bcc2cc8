"""Facts of a machine and its environment, and advice on what is wrong or slow.

Runs in broken environments: only the probe imports torch or a package of OpenMMLab.
"""
