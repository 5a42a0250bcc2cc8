"""Errors that the caller can fix."""


class BackboneError(ValueError):
    """A backbone or checkpoint is invalid; the message says why in one line."""


class DamagedFileError(BackboneError):
    """A checkpoint file is empty, truncated or otherwise corrupt."""
