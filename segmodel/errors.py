"""Every error that beamseg raises on purpose, with one root class."""


class BeamsegError(Exception):
    """Root of all errors of beamseg; the text says what must hold, what was found, the remedy."""


class ConfigurationError(BeamsegError, ValueError):
    """Options or a configuration file that cannot be carried out."""


class ContractError(BeamsegError, ValueError):
    """A model contract that is malformed, or an input that does not fit it; names the field."""


class InputError(BeamsegError, ValueError):
    """An image, mask or shard that cannot be used; all others are processed."""


class TrainingError(BeamsegError, RuntimeError):
    """A training run that cannot go on."""


class ExportError(BeamsegError, RuntimeError):
    """A SavedModel that does not do what the network in memory does, or that may not be loaded."""


class GroundError(BeamsegError, ValueError):
    """A raster whose pixels have no ground area."""


class TransientError(BeamsegError, RuntimeError):
    """A fault of the store, the network or memory that a later attempt may not meet."""


class OutOfMemoryError(TransientError, MemoryError):
    """Memory of the model's device ran out; a smaller batch may fit."""
