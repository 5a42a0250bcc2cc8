"""Errors of this package that are the caller's to mend."""


class BackboneError(ValueError):
    """A backbone or checkpoint that cannot be what was asked for; one line that says why."""
