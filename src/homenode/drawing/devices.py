"""The devices of every node, by kind."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from homenode.host import DeviceKind, Host

KINDS: tuple[DeviceKind | None, ...] = (
    *(kind for kind in get_args(DeviceKind) if kind != "chipset"), None, "chipset",
)  # fmt: skip
"""The kinds in the order in which they are told; those that nobody knows, or asks for, last."""

MOST_ADDRESSES = 8
"""Devices of one kind on one node beyond which the rest is only counted."""


class DeviceGroup(NamedTuple):
    """The devices of one kind (None: nobody tells) on one node, by their addresses."""

    kind: DeviceKind | None
    addresses: tuple[str, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """The addresses to be written out; those of the chipset are only counted."""
        if self.kind == "chipset":
            return ()
        most = MOST_ADDRESSES if len(self.addresses) > MOST_ADDRESSES + 1 else MOST_ADDRESSES + 1
        return self.addresses[:most]

    @property
    def hidden(self) -> int:
        """How many are not written out, of those that could be."""
        return 0 if self.kind == "chipset" else len(self.addresses) - len(self.shown)


def devices_by_node(host: Host) -> dict[int | None, list[DeviceGroup]]:
    """Return the devices of every node; of None, those on no node that the host describes."""
    found: dict[int | None, dict[DeviceKind | None, list[str]]] = {}
    for device in host.devices:
        node = device.node if device.node in host.nodes_by_id else None
        found.setdefault(node, {}).setdefault(device.kind, []).append(device.address)
    return {node: _groups(kinds) for node, kinds in found.items()}


def _groups(kinds: dict[DeviceKind | None, list[str]]) -> list[DeviceGroup]:
    return [DeviceGroup(kind, tuple(kinds[kind])) for kind in KINDS if kind in kinds]


def count_words(groups: Sequence[DeviceGroup]) -> str:
    """Return how many there are of each kind, such as ``2 accelerators, 1 network``."""
    return ", ".join(map(_words, groups))


def _words(group: DeviceGroup) -> str:
    count = len(group.addresses)
    match group.kind:
        case None:
            return f"{count} of unknown kind"
        case "accelerator" | "display":
            return f"{count} {group.kind}{'s' * (count != 1)}"
        case "chipset":
            return f"{count} of the chipset"
        case _:
            return f"{count} {group.kind}"
