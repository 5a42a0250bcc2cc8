"""Errors of this package that are the caller's to mend."""


class BackboneError(ValueError):
    """A backbone or checkpoint that cannot be what was asked for; one line that says why."""


class DamagedFileError(BackboneError):
    """A checkpoint file that is not what was once written: empty, truncated, or otherwise changed."""
