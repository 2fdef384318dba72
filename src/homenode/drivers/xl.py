"""``xl`` as homenode calls it: what each call says when it fails, and how long it may take.

All that is known of xl's command line is here; what its output means is in `homenode.formats`.
"""

from collections.abc import Sequence

from homenode.drivers.gateway import TIMEOUT_S, Gateway, Output
from homenode.errors import HypervisorError

_LONGEST_MESSAGE = 300
_MEANINGLESS = ("Parsing config from", "xencall: error: ", "libxl: info:", "libxl: notice:")


class Xl:
    """The xl of the host behind `gateway`."""

    __slots__ = ("gateway",)

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def __call__(self, *words: str, timeout_s: float = TIMEOUT_S) -> str:
        """Run ``xl`` with `words` and return what it printed.

        Raises `HypervisorError` with xl's own words if it fails.
        """
        return self.checked(["xl", *words], words[0], timeout_s=timeout_s)

    def checked(self, words: Sequence[str], command: str, *, timeout_s: float) -> str:
        """Run `words`, which are a call of xl's `command`; as `__call__`."""
        output = self.gateway.run(words, timeout_s=timeout_s)
        if output.status:
            raise self.refusal([command], output)
        return output.stdout

    def run(self, words: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> Output:
        """Run ``xl`` with `words` and return what came of it, whatever that is."""
        return self.gateway.run(["xl", *words], timeout_s=timeout_s)

    def refusal(self, words: Sequence[str], output: Output) -> HypervisorError:
        """Return the error about a call that failed, in xl's own words."""
        said = said_by(output)
        hint = None
        if "ermission denied" in said or "Operation not permitted" in said:
            hint = "xl is for root"
        elif "xen-hypervisor" in said or "privcmd" in said or "Is a Xen" in said:
            hint = "is this a Xen dom0?"
        return HypervisorError(f"{self.gateway.name}xl {words[0]}: {said}", hint=hint)


def said_by(output: Output) -> str:
    """Return in one line what xl said when it failed: its errors, the first of them first.

    libxl tells the cause first and then, layer by layer, what failed with it.
    """
    lines = [line.strip() for line in (output.stderr + "\n" + output.stdout).splitlines()]
    lines = [line for line in lines if line and not line.startswith(_MEANINGLESS)]
    errors = [line for line in lines if "error" in line.lower() or "fail" in line.lower()] or lines
    if not errors:
        return f"it ended with status {output.status} and said nothing"
    return "; ".join(dict.fromkeys(map(_bare, errors)))[:_LONGEST_MESSAGE]


def _bare(line: str) -> str:
    """Return a line of libxl's log without the file and the function that wrote it."""
    if not line.startswith("libxl: "):
        return line
    _, _, rest = line.partition(": ")
    level, colon, message = rest.partition(": ")
    place, _, after = message.partition(": ")
    return after.strip() if colon and ".c:" in level + place and after else message or rest
