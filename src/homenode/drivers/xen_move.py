"""Moving a guest's memory on Xen: the only ways there are make a second guest of it.

*Live*: a migration onto the same host. The guest runs on but for a moment, and nothing is lost if
it fails; but its memory has to be there twice for a while, and Xen has to keep a log of dirty
pages, which not every build does. *Saved*: the guest is written to a file and restored from it,
with its old memory free meanwhile; it stands still, and if something goes wrong it is only in the
file.

In both the config given at the end outranks the one that libxl kept, masks and all; a config
without uuid would give the guest a new one (looked up with xl 4.17).
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from homenode.bitmap import NodeMap
from homenode.claims import PENDING_S, Claim, outstanding_kib
from homenode.drivers.base import Masks, Snapshot
from homenode.drivers.xl import Xl
from homenode.errors import DoesNotFit, HomenodeError, HypervisorError, Undone
from homenode.formats.xl_cfg import GuestConfig
from homenode.formats.xl_info import parse_head
from homenode.guest import Guest, GuestRequest
from homenode.rules import xen as rules
from homenode.rules.xen_config import homed
from homenode.units import format_memory

if TYPE_CHECKING:
    from homenode.drivers.gateway import Gateway
    from homenode.drivers.xen import XenDriver

SAVED = "/var/lib/xen/save"
"""Where guests are saved, as the xendomains script of Xen has it."""

MOVE_S = 600.0
MOVE_S_PER_GIB = 60.0
"""How long writing or copying a guest may take: 17 MiB a second is slow for any disk."""


class Mover:
    """One guest on its way to where `masks` put it, `config` being its own."""

    def __init__(
        self, driver: "XenDriver", guest: Guest, masks: Sequence[Masks], config: GuestConfig
    ) -> None:
        self._driver = driver
        self._gateway: Gateway = driver.gateway
        self._xl = Xl(driver.gateway)
        self._guest = guest
        self._masks = masks
        self._config = config
        self._timeout_s = MOVE_S + MOVE_S_PER_GIB * (guest.memory_kib or 0) / (1 << 20)

    def move(self, *, folder: str) -> None:
        """Move the guest live if Xen can and its memory has room twice, else by saving it.

        What is kept meanwhile is in `folder`, and the guest itself in `SAVED`.

        Raises `DoesNotFit` if there is no room at all; then nothing was done.
        """
        ledger = self._driver.ledger
        with ledger.lock():
            seen = self._driver.snapshot("creation")
            claims = ledger.holding(seen.guests)
            has_room = self._fits(seen, outstanding_kib(claims, seen.guests))
            claim = self._claim(seen)
            ledger.replace((*claims, claim))
        path = f"{folder}/{self._guest.uuid}.cfg"
        try:
            text = homed(self._config, self._masks, seen.host)
            self._gateway.storage.replace(path, text.encode())
            if has_room and self._can_live:
                self._migrate(path)
            else:
                self._save_and_restore(path, f"{SAVED}/homenode-{self._guest.uuid}.save")
        finally:
            ledger.drop(str(claim.uuid))

    @cached_property
    def _can_live(self) -> bool:
        told = parse_head(self._xl("info")).get("virt_caps", "")
        return rules.keeps_dirty_log(told.split(), self._guest.type)

    def _nodes(self, seen: Snapshot) -> NodeMap:
        return rules.node_affinity(
            [mask.hard for mask in self._masks],
            [mask.soft for mask in self._masks],
            pool_cpus=seen.host.pool(self._guest.pool).cpus,
            host=seen.host,
        )

    def _needed(self) -> GuestRequest:
        guest = self._guest
        kib = guest.memory_kib or 0
        needed_kib = rules.memory_needed_kib(
            target_kib=kib,
            max_kib=guest.max_memory_kib or kib,
            vcpus=len(guest.vcpus),
            type=guest.type or "pvh",
        )
        return GuestRequest(
            guest.name, len(guest.vcpus), needed_kib, guest_memory_kib=kib, type=guest.type
        )

    def _fits(self, seen: Snapshot, outstanding: dict[int, int]) -> bool:
        """Return whether it fits with its old memory still taken; else it does without."""
        nodes = self._nodes(seen)
        usable = {
            node: max(0, (seen.host.nodes_by_id[node].usable_kib or 0) - outstanding.get(node, 0))
            for node in nodes
        }
        if self._covered(list(usable.values())):
            return True
        own = {} if self._guest.memory_by_node is None else self._guest.memory_by_node.kib
        freed = [kib + own.get(node, 0) for node, kib in usable.items()]
        if self._covered(freed):
            return False
        raise DoesNotFit(
            f"{self._guest.name!r} does not fit on {nodes.named}: "
            f"{format_memory(sum(freed))} usable of {format_memory(self._needed().memory_kib)}",
            hint="homenode topology shows who has it",
        )

    def _covered(self, usable_kib: list[int]) -> bool:
        needed = self._needed()
        if sum(usable_kib) < needed.memory_kib:
            return False
        return sum(rules.memory_shares(needed, usable_kib)) >= needed.memory_kib

    def _claim(self, seen: Snapshot) -> Claim:
        """Claim the room for the second guest, which no uuid of its own will ever be seen of."""
        nodes = self._nodes(seen)
        each = -(-self._needed().memory_kib // len(nodes))
        ledger = self._driver.ledger
        return Claim(
            uuid=f"{self._guest.uuid} on its way",
            name=f"{self._guest.name} (moving)",
            vcpus=len(self._guest.vcpus),
            memory_kib=dict.fromkeys(nodes, each),
            boot_id=ledger.boot_id,
            expires_at=ledger.clock() + PENDING_S + self._timeout_s,
            creator=ledger.creator,
        )

    def _migrate(self, path: str) -> None:
        words = ["migrate", "-C", path, "-s", "", str(self._guest.id), "xl migrate-receive"]
        output = self._xl.run(words, timeout_s=self._timeout_s)
        if output.status:
            # The sender has resumed the guest; nothing of the receiver stays.
            raise Undone(
                f"{self._xl.refusal(['migrate'], output)}; {self._guest.name!r} runs as before"
            )

    def _save_and_restore(self, path: str, image: str) -> None:
        self._gateway.run(["mkdir", "-p", SAVED])
        self._refuse_full_disk()
        self._gateway.storage.replace(f"{path}.old", self._config.text.encode())
        saved = self._xl.run(["save", str(self._guest.id), image], timeout_s=self._timeout_s)
        if saved.status:
            self._gateway.run(["rm", "-f", image])
            raise Undone(
                f"{self._xl.refusal(['save'], saved)}; {self._guest.name!r} runs as before"
            )
        restored = self._xl.run(["restore", path, image], timeout_s=self._timeout_s)
        if restored.status:
            refusal = self._xl.refusal(["restore"], restored)
            again = self._xl.run(["restore", f"{path}.old", image], timeout_s=self._timeout_s)
            if again.status:
                raise HypervisorError(
                    f"{refusal}; {self._guest.name!r} is saved in {image}",
                    hint=f"xl restore {image}",
                )
            self._gateway.run(["rm", "-f", image])
            raise Undone(f"{refusal}; {self._guest.name!r} is restored as it was")
        self._gateway.run(["rm", "-f", image, f"{path}.old"])

    def _refuse_full_disk(self) -> None:
        output = self._gateway.run(["df", "-Pk", SAVED])
        words = output.stdout.splitlines()[-1].split() if output.stdout else []
        room_kib = int(words[3]) if len(words) > 3 and words[3].isdecimal() else None
        needed_kib = (self._guest.memory_kib or 0) * 102 // 100
        if room_kib is not None and room_kib < needed_kib:
            raise HomenodeError(
                f"{SAVED} has {format_memory(room_kib)} left, and {self._guest.name!r} needs"
                f" {format_memory(needed_kib)} to be saved",
                hint="or make room for it on the new nodes twice, and it moves live"
                if self._can_live
                else None,
            )
