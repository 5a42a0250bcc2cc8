"""What a machine and its environment are, and what in them is wrong or slow.

Works where parts are broken: imports neither torch nor any package of OpenMMLab.
"""
