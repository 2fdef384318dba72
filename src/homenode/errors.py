"""What can go wrong, and the exit status that says so.

Every error that homenode raises on purpose is a `HomenodeError`: one line that says what is
wrong, where, and what to do about it. Anything else that reaches a user is a defect.
"""

from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses of every command; part of the interface."""

    DONE = 0
    DOES_NOT_FIT = 1
    BAD_INPUT = 2
    HYPERVISOR = 3
    MENDING_NEEDED = 4
    UNDONE = 5
    INTERRUPTED = 130


class HomenodeError(Exception):
    """A mistake in what was asked or given, and what to do about it."""

    exit_status = ExitStatus.BAD_INPUT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ParseError(HomenodeError):
    """A text that cannot be read: names the source, the line and the place in it."""

    def __init__(
        self,
        message: str,
        *,
        source: str | None = None,
        line: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.source = source
        self.line = line

    def __str__(self) -> str:
        place = "".join(
            f"{part}:" for part in (self.source, self.line if self.source else None) if part
        )
        return f"{place} {super().__str__()}".lstrip()

    def within(self, source: str, line: int | None = None) -> "ParseError":
        """Return the same error, placed in `source` (and line) if it had no place yet."""
        return ParseError(
            self.message,
            source=self.source or source,
            line=self.line if self.line is not None else line,
            hint=self.hint,
        )


class NoHostError(HomenodeError):
    """No host was named, and there is none here."""


class HypervisorError(HomenodeError):
    """The hypervisor refused, or did not answer."""

    exit_status = ExitStatus.HYPERVISOR


class Conflict(HomenodeError):  # noqa: N818 - names the state, as HTTP does
    """What was asked contradicts what is there: a name in use, a guest that is gone."""


class DoesNotFit(HomenodeError):  # noqa: N818 - names the state
    """There is no room for what was asked; nothing was done."""

    exit_status = ExitStatus.DOES_NOT_FIT


class Undone(HomenodeError):  # noqa: N818 - names the state that was left
    """A change was made in part, and was taken back."""

    exit_status = ExitStatus.UNDONE
