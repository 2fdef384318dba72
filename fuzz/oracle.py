"""What is right: an input gives a value, or a `HomenodeError` whose message is one line."""

from fuzz.target import Target
from homenode.errors import HomenodeError


class Defect(AssertionError):  # noqa: N818 - what it is
    """A parser gave a value, and the value is wrong; or it complained in a way that is."""


def check(target: Target, data: bytes) -> bool:
    """Give `data` to the target; return whether it was accepted. Whatever is raised is a defect."""
    try:
        target.read(data)
    except HomenodeError as error:
        message = str(error)
        if not message or "\n" in message:
            raise Defect(f"the message is not one line: {message!r}") from error
        return False
    return True


def expect(value: object, wanted: object, what: str) -> None:
    """Raise `Defect` if something that was written and read again is another."""
    if value != wanted:
        raise Defect(f"{what}: {value!r:.300} is not {wanted!r:.300}")
