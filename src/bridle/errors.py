"""The errors that a user can mend: each message is one line that says what is wrong and what to do."""

__all__ = ["BridleError", "CheckpointError", "ConfigError", "DataError", "Interrupted", "TrainingError"]


class BridleError(Exception):
    """Base of all errors that the command line prints as one line, with exit status 2."""


class ConfigError(BridleError, ValueError):
    """A setting that does not exist, is out of range, or does not fit the others."""


class DataError(BridleError):
    """Data that are absent, damaged or of the wrong form."""


class CheckpointError(BridleError):
    """A run or checkpoint that cannot be read or written, or belongs to another model."""


class TrainingError(BridleError):
    """A run whose loss is no longer finite."""


class Interrupted(BridleError):
    """A run that the user stopped; its checkpoint is saved."""
