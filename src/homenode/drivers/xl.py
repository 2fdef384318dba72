"""``xl`` as homenode calls it: what each call says when it fails, and how long it may take.

All that is known of xl's command line is here; what its output means is in `homenode.formats`.
"""

import re
from collections.abc import Sequence

from homenode.drivers.gateway import TIMEOUT_S, Gateway, Output
from homenode.errors import HypervisorError

_LONGEST_MESSAGE = 300
_CHATTER = ("Parsing config from ",)

_LOGGED = re.compile(
    r"[\w:]+: (?P<level>debug|verbose|detail|progress|info|notice|warning|error|critical): "
    r"(?:panic: )?(?:\w+\.c:\d+:(?:\w+:)? )?(?:xc_dom_\w+: |Domain \d+: ?)?"
)
"""How the libraries of xl begin a line (xtl_logger_stdiostream.c): with who says it how loud, and
often with the file, line and function, and with the number of a domain, which may be gone."""

_IN_VAIN = (
    "cannot open libxc handle", "cannot init xl context", "cannot make domain",
    "cannot (re-)build domain", "xc_dom_", "Non-existant domain", "Unable to destroy guest",
    "Destruction of domain failed",
)  # fmt: skip
"""What libxl says of its own steps, and of tidying up, when the cause has been told."""

_NOT_HERE = (
    "privileged command interface", "Operation not permitted", "hypervisor information in sysfs",
    "Hypervisor is not xen",
)  # fmt: skip
"""What xl, and Debian's wrapper around it, say where they cannot reach Xen."""


class Xl:
    """The xl of the host behind `gateway`; what only looks is ended after `timeout_s`."""

    __slots__ = ("gateway", "timeout_s")

    def __init__(self, gateway: Gateway, *, timeout_s: float = TIMEOUT_S) -> None:
        self.gateway = gateway
        self.timeout_s = timeout_s

    def __call__(self, *words: str) -> str:
        """Run ``xl`` with `words` and return what it printed.

        Raises `HypervisorError` with xl's own words if it fails.
        """
        return self.checked(["xl", *words], words[0], timeout_s=self.timeout_s)

    def checked(self, words: Sequence[str], command: str, *, timeout_s: float) -> str:
        """Run `words`, which are a call of xl's `command`; as `__call__`."""
        output = self.gateway.run(words, timeout_s=timeout_s)
        if output.status:
            raise self.refusal([command], output)
        return output.stdout

    def run(self, words: Sequence[str], *, timeout_s: float | None = None) -> Output:
        """Run ``xl`` with `words` and return what came of it, whatever that is."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        return self.gateway.run(["xl", *words], timeout_s=limit_s)

    def refusal(self, words: Sequence[str], output: Output) -> HypervisorError:
        """Return the error about a call that failed, in xl's own words."""
        said = said_by(output)
        here = not any(words in said for words in _NOT_HERE)
        hint = None if here else "xl is for root, in a Xen dom0"
        return HypervisorError(f"{self.gateway.name}xl {words[0]}: {said}", hint=hint)


def said_by(output: Output) -> str:
    """Return in one line what xl said when it failed, the cause first.

    The libraries tell the cause first and then, layer by layer, what failed with it; xl itself
    draws its conclusion at the end.
    """
    text = output.stderr if output.stderr.strip() else output.stdout
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [at for at, line in enumerate(lines) if _level(line) in ("error", "critical")]
    heard = [line for line in lines[errors[0] if errors else 0 :] if _matters(line)] or lines
    said = list(dict.fromkeys(map(_bare, heard)))
    said = said[:1] + [line for line in said[1:] if not line.startswith(_IN_VAIN)]
    if not said:
        return f"it ended with status {output.status} and said nothing"
    return "; ".join(said)[:_LONGEST_MESSAGE]


def _level(line: str) -> str | None:
    logged = _LOGGED.match(line)
    return logged["level"] if logged else None


def _matters(line: str) -> bool:
    return _level(line) in (None, "error", "critical") and not line.startswith(_CHATTER)


def _bare(line: str) -> str:
    """Return a line without who logged it where, and without an error code that tells nothing."""
    bare = _LOGGED.sub("", line, count=1) if _LOGGED.match(line) else line
    bare = bare.removeprefix("ERROR:").strip().removesuffix(": Internal error").removesuffix(".")
    return bare or line
