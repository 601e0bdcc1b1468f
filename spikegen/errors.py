"""The errors that a user of spikegen can meet. A message says what is wrong, where, and what to do."""

from __future__ import annotations


class SpikegenError(Exception):
    """Base class of every error that spikegen raises on purpose."""


class ConfigError(SpikegenError):
    """A configuration value is outside its range, unknown or missing."""


class MissingPackageError(SpikegenError):
    """A package that this needs is not installed, or does not exist for this Python."""


class CheckpointError(SpikegenError):
    """A checkpoint is missing, damaged, of another format, or does not match its configuration."""


class LoweringError(SpikegenError):
    """A model holds something that cannot be lowered to a Program."""


class ProgramError(SpikegenError):
    """A Program or pipeline breaks a rule. ``problems`` holds every violation found, one line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(problems[0] if len(problems) == 1 else "\n  - ".join(["these rules are broken:", *problems]))


class ProgramFileError(SpikegenError):
    """A pipeline file is missing, damaged, altered, or of another schema version."""


class BackendError(SpikegenError):
    """A target cannot be built or failed while it ran."""


class OutputError(SpikegenError):
    """An output file cannot be written where it was asked for."""


class RecordError(SpikegenError):
    """A counts or state file is missing, damaged, or belongs to another pipeline or run."""


class JobError(SpikegenError):
    """A job folder is damaged or altered, its shards are not complete, or the queue of the host refuses."""


class ExchangeError(SpikegenError):
    """A network file of an open format is missing, damaged or too large, or a Program cannot be said in that format."""
