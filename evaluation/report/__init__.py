"""The report: one self-contained page in which a matrix of runs is explored."""
