"""Everything that is wrong with a data set: all findings at once, not the first alone."""
