"""The errors a user can meet, each with its exit code and the command that fixes it."""

from __future__ import annotations

from typing import Self

from eurekaflow.models.masking import mask

DISK_FULL = "53100"  # SQLSTATE
FREE_SPACE = "free some space, then: eureka resume"


def interruption(
    error: BaseException | None, handled: BaseException | None
) -> BaseException | None:
    """The signal's exception (no Exception) whose place `error` has taken while it unwound.

    `handled` was being handled before: what led to it is not looked at.
    """
    while error is not None and error is not handled:
        if not isinstance(error, Exception):
            return error
        error = error.__cause__ or error.__context__
    return None


class EurekaError(Exception):
    """Something the user can act on: `message` says what happened, `fix` what to do about it."""

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        message, fix = mask(message), mask(fix)
        super().__init__(message, fix)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message


class UsageError(EurekaError, ValueError):
    """An argument or a configuration value that cannot be."""

    exit_code = 2


class PrerequisiteMissing(EurekaError, RuntimeError):
    """Something outside the program is absent: a device, a database, a model."""

    exit_code = 3


class SchemaMismatch(PrerequisiteMissing):
    """The archive's schema is older or newer than this program."""


class ModelDamaged(PrerequisiteMissing):
    """Downloaded or given weights do not have the expected content."""


class NoValidAttempt(EurekaError, RuntimeError):
    """The budget ended without one valid attempt."""

    exit_code = 4


class RunOwned(EurekaError, RuntimeError):
    """Another living process owns the run."""

    exit_code = 5


class FencedOut(EurekaError, RuntimeError):
    """This process lost its lease on the run; nothing was written."""


class ArchiveUnavailable(EurekaError, ConnectionError):
    """The database cannot be reached, is full or ended the connection."""

    exit_code = 3

    @classmethod
    def because(cls, cause: BaseException) -> Self:
        """The error of Postgres' client in one line; a full disk is told apart."""
        reason = " ".join(str(cause).split())
        if getattr(cause, "sqlstate", None) == DISK_FULL:
            return cls(f"the archive's disk is full: {reason}", FREE_SPACE)
        return cls(f"the archive did not answer: {reason}", "eureka doctor")


class ArchiveInterrupted(ArchiveUnavailable):
    """The transaction was rolled back or its connection lost: the same call may succeed now."""


class DeviceUnavailable(PrerequisiteMissing):
    """The device, its memory or the disk failed under the work, which is no fault of the work."""


class CheckpointDamaged(EurekaError, RuntimeError):
    """A checkpoint's files are missing, torn or altered."""
