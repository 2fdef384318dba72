"""What can be wished for a guest beside its own settings, in the words of all files and options.

Guests' files of both kinds and the command line say the same things in the same forms; here is
what they mean. Complaints have no place yet: who reads the file adds it.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

from homenode.bitmap import NodeMap
from homenode.errors import HomenodeError
from homenode.guest import GuestRequest, NearDevice, Tier, TierKind
from homenode.host import ORDINARY_PAGE_KIB, Host, NodeKind
from homenode.units import format_memory, format_page, parse_memory_kib

Oddity = tuple[str, str]
"""A stable code and a sentence."""

DeviceWish = Literal["required", "preferred", "ignored"]
DEVICE_WISHES: Final = get_args(DeviceWish)

_LARGEST_PAGE_KIB = 1 << 30


class Requested(NamedTuple):
    """The request that a guest's file makes, and what in the file contradicts itself."""

    request: GuestRequest
    warnings: tuple[Oddity, ...] = ()


def anywhere(asked: GuestRequest) -> GuestRequest:
    """Return the request without the wishes that ``nodes`` outranks.

    These are soft affinity and the nodes of virtual nodes. What vcpus are held to stays.
    """
    free = tuple(cell._replace(node=None) for cell in asked.virtual_nodes)
    return asked._replace(explicit=None, node_count=None, soft=(), virtual_nodes=free)


def nodes_or_count(text: str, host: Host) -> NodeMap | int | None:
    """Read ``0-1,^3``, ``all``, ``2 nodes`` (any two), or ``auto`` (None: left open)."""
    text = text.strip()
    if text == "auto":
        return None
    if text == "all":
        return host.nodes_of(host.cpu_map)
    count, blank, word = text.partition(" ")
    if blank and word.strip() in ("node", "nodes") and count.isascii() and count.isdecimal():
        if len(count) > 5 or not 0 < int(count) <= len(host.nodes):
            there = len(host.nodes)
            raise HomenodeError(
                f"{text[:40]!r}: this host has {there} node{'s' * (there > 1)}",
                hint=f"ask for 1 to {there} of them" if there > 1 else "auto leaves it open",
            )
        return int(count)
    return listed_nodes(text, host, hint="auto leaves it open")


def listed_nodes(text: str, host: Host, *, hint: str | None = None) -> NodeMap:
    """Read a list of nodes that this host has, at least one."""
    nodes = NodeMap.parse_libvirt(text, within=host.node_map) if text.strip() else NodeMap()
    if not nodes:
        raise HomenodeError(f"{text[:40]!r} names no node", hint=hint)
    return nodes


def guest_names(text: str) -> tuple[str, ...]:
    """Read names with commas between them, each once."""
    names = (name.strip() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def device_wish(text: str) -> DeviceWish:
    """Read what being near a device is to the guest."""
    for wish in DEVICE_WISHES:
        if text == wish:
            found: DeviceWish = wish
            return found
    raise HomenodeError(
        f"{text[:40]!r} is not known", hint=f"it is one of {', '.join(DEVICE_WISHES)}"
    )


def near_device(address: str, host: Host, *, required: bool) -> NearDevice:
    """Return the device of the host at a PCI address, which may lack the domain (``41:00.0``).

    Upper case will do.

    Raises `HomenodeError` if the host does not tell on which node it hangs.
    """
    known = {device.address: device.node for device in host.devices}
    address = address.strip().lower()
    full = address if address in known or address.count(":") != 1 else f"0000:{address}"
    node = known.get(full)
    if node is not None and node in host.node_map:
        return NearDevice(full, node, required)
    shown = address[:40] if address and address.isprintable() else repr(address[:40])
    if full in known:
        raise HomenodeError(f"this host does not tell on which node {shown} hangs")
    if host.devices:
        raise HomenodeError(
            f"this host has no device {shown}", hint="homenode topology names its devices"
        )
    raise HomenodeError(f"{host.name[:40]} tells of no devices, and so not of {shown}")


def near_devices(
    addresses: Sequence[str], host: Host, wish: DeviceWish
) -> tuple[tuple[NearDevice, ...], list[Oddity]]:
    """Return the devices that the guest is to be near; unknown ones are an error if required."""
    near, oddities = [], []
    for address in addresses if wish != "ignored" else ():
        try:
            near.append(near_device(address, host, required=wish == "required"))
        except HomenodeError as error:
            if wish == "required":
                hint = "'preferred' places it without"
                raise HomenodeError(error.message, hint=hint) from None
            text = f"{error.message}: it is placed without regard to it"
            oddities.append(("device-unknown", text))
    return tuple(near), oddities


def tier_of(text: str, memory_kib: int) -> Tier:
    """Read ``cxl:8GiB``: so much of a guest's memory from nodes without cpus, of that kind.

    ``cxl`` alone is all of it; a size is rounded up to a MiB. ``any`` are all kinds but
    HBM and a GPU's, and nodes of which nobody tells: on Xen, all.
    """
    name, colon, size = text.strip().partition(":")
    kinds: tuple[TierKind, ...] = (*get_args(NodeKind), "any")
    kind = next((one for one in kinds if one == name), None)
    if kind is None:
        hint = f"write it as cxl:8GiB; there are {', '.join(kinds)}"
        raise HomenodeError(f"{text[:40]!r} is not known", hint=hint)
    kib = -(-parse_memory_kib(size) // 1024) * 1024 if colon else memory_kib
    if not 0 < kib <= memory_kib:
        raise HomenodeError(f"{text[:40]!r} is no part of the guest's {format_memory(memory_kib)}")
    return Tier(kind, kib)


def page_size_kib(text: str, host: Host) -> int:
    """Read the size of huge pages, of which the host has to have a pool somewhere."""
    kib = parse_memory_kib(text)
    if kib <= ORDINARY_PAGE_KIB or kib & (kib - 1) or kib > _LARGEST_PAGE_KIB:
        hint = "2MiB and 1GiB are usual"
        raise HomenodeError(f"there are no huge pages of {text[:40]!r}", hint=hint)
    pools = {pool.page_kib for node in host.nodes for pool in node.pages}
    if pools and kib not in pools:
        has = ", ".join(format_page(size) for size in sorted(pools))
        raise HomenodeError(f"this host has no pages of {format_page(kib)}", hint=f"it has {has}")
    return kib
