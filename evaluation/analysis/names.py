"""The analyses that there are, by the names of their commands."""

ANALYSES = ('erf', 'invariance', 'robustness')
