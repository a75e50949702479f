"""The errors a caller of omnirm can meet.

    OmnirmError
    ├── SampleError(ValueError)         a sample, rubric or file of samples is not of the documented form
    ├── ConfigError(ValueError)         an unknown or contradictory setting
    ├── BackendError(RuntimeError)      a model could not be loaded or could not answer
    │   └── UnsafeCheckpoint            pickled weights or remote code, and the user did not ask for it
    ├── CapabilityError(ValueError)     the model cannot take this modality or this length
    └── MissingExtra(ImportError)       an optional package is needed; the message has the install command

Media errors are `omnirm.preprocessing.MediaError` and its subclasses. A judgment that could not be read is no error
but a value: `omnirm.types.ParseFailure`.
"""

from __future__ import annotations


class OmnirmError(Exception):
    """Base of every error that omnirm raises on purpose."""


class SampleError(OmnirmError, ValueError):
    """A sample, rubric or sample file is not of the documented form."""


class ConfigError(OmnirmError, ValueError):
    """An unknown or contradictory setting."""


class BackendError(OmnirmError, RuntimeError):
    """A model could not be loaded or could not answer."""


class UnsafeCheckpoint(BackendError):
    """The checkpoint holds pickled weights or needs its own code to run."""


class CapabilityError(OmnirmError, ValueError):
    """The model cannot take this modality, or that much of it."""


class MissingExtra(OmnirmError, ImportError):
    """An optional package is missing."""
