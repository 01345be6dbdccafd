"""Errors that a user can mend: shown as one message, without a traceback, with exit status 2."""


class UserError(Exception):
    """Base of all errors whose cause lies in what the user gave, not in the program."""


class ConfigError(UserError):
    """A configuration key or value that cannot be used."""


class DataError(UserError):
    """A data file that is missing or whose content cannot be used."""


class RunError(UserError):
    """A run that cannot be started, continued or finished."""


class ModelError(RunError):
    """A model that does not keep its contract (docs/plugin.md); where it raised an error, that is the cause."""
