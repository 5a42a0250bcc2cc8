"""Names of analyses, and of the protocols by which they measure.

Figures of different protocols are never compared with each other.
"""

SUITE = 'suite'
# Of the code released with arXiv 2211.05781.
RELEASED = 'released'
# Of RepLKNet's code (arXiv 2203.06717).
REPLKNET = 'replknet'


ANALYSES = ('erf', 'invariance', 'robustness')
