"""Watch a simulated host's files while others change them, and say what must not be.

    python -S proof/soak_observer.py FOLDER NAME CUTS

Independent on purpose: nothing of homenode is imported (``-S`` sees to that), no lock is taken, and
the two files are read by what their documents say. It ends when its standard input does, and
prints a JSON document: how often it looked, and what it saw that must not be. CUTS becomes a file
of JSON lines, one for each different state: when it was seen, and which guests were there.

A *cut* is both files at one moment: the ledger is read, then the host, and neither was replaced
meanwhile.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

Document = dict[str, Any]
Guests = list[Document]

PENDING, MOVING = "pending", "moving"
STRAY_KIB = 64
"""Of each guest: the pages for itself Xen takes from any node, which no claim foresees by node."""

PAUSE_S = 0.0005
MOST_COMPLAINTS = 20


class Watch:
    """What was seen so far of the host in `folder`."""

    def __init__(self, folder: str, name: str) -> None:
        self.host_file = Path(folder, f"{name}.json")
        self.ledger_file = Path(folder, f"{name}.claims.json")
        self.complaints: list[str] = []
        self.looks = self.cuts = 0
        self.most_percent: dict[int, int] = {}
        self.ids: dict[int, list[object]] = {}
        self.next_id = self.serial = 0
        self._seen: object = None

    def complain(self, text: str) -> None:
        """Note what must not be."""
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(text)

    def look(self) -> tuple[float, float, Document] | None:
        """Return the guests of a state not seen before as (began, ended, guests), else None."""
        began = time.monotonic()
        before = tuple(map(identity, (self.ledger_file, self.host_file)))
        if before == self._seen:
            return None
        self.looks += 1
        ledger = self.read(self.ledger_file, "ledger of claims")
        host = self.read(self.host_file, "simulated host")
        if host is None or before != tuple(map(identity, (self.ledger_file, self.host_file))):
            return None
        self._seen = before
        self.cuts += 1
        guests = host["snapshot"]["guests"]
        self.check_host(host, guests)
        self.check_ledger(ledger or {"claims": [], "serial": 0}, host, guests)
        there = {guest["uuid"]: [guest["name"], guest["id"]] for guest in guests if guest["id"]}
        return began, time.monotonic(), there

    def read(self, file: Path, kind: str) -> Document | None:
        """Return the document in a file, None if there is none."""
        try:
            text = file.read_text("utf-8")
        except FileNotFoundError:
            return None
        try:
            document: Document = json.loads(text)
        except ValueError as error:
            self.complain(f"{file.name} is not whole: {error}")
            return None
        if document.get("kind") != kind or document.get("version") != 1:
            self.complain(f"{file.name} is no {kind}")
            return None
        return document

    def check_host(self, host: Document, guests: Guests) -> None:
        """Check that guests are whole, nobody is there twice, and no id is used again."""
        for key in ("uuid", "name", "id"):
            values = [guest[key] for guest in guests]
            if len(set(values)) < len(values):
                self.complain(f"two guests have one {key}: {sorted(values)}")
        held = {one["uuid"]: sum_kib(one["memory"]) for one in host["held"]}
        wanted = {guest["uuid"]: guest["memory_kib"] for guest in guests}
        if held != wanted:
            self.complain(f"guests have {held} KiB and are of {wanted} KiB")
        for guest in guests:
            run = [guest["uuid"], guest["generation"]]
            if self.ids.setdefault(guest["id"], run) != run:
                self.complain(f"id {guest['id']} was {self.ids[guest['id']]} and is {run}")
        newest = max(guest["id"] for guest in guests)
        if newest >= host["next_id"] or host["next_id"] < self.next_id:
            self.complain(f"the next id is {host['next_id']}, and was {self.next_id}")
        self.next_id = host["next_id"]

    def check_ledger(self, ledger: Document, host: Document, guests: Guests) -> None:
        """Check that what guests have and are promised is there, on every node."""
        uuids = [claim["uuid"] for claim in ledger["claims"]]
        if len(set(uuids)) < len(uuids):
            self.complain(f"a guest is promised memory twice: {sorted(uuids)}")
        if ledger["serial"] < self.serial:
            self.complain(f"the ledger counts {ledger['serial']} claims, and had {self.serial}")
        self.serial = ledger["serial"]
        owed = outstanding_kib(ledger["claims"], host["boot_id"], guests, now=time.time())
        taken: dict[int, int] = {}
        low: dict[int, int] = {}
        for one in host["held"]:
            for part in one["memory"] + one["overhead"]:
                at, kib = part["node"], part["high_kib"] + part["low_kib"]
                taken[at] = taken.get(at, 0) + kib
                low[at] = low.get(at, 0) + part["low_kib"]
        for node in host["snapshot"]["host"]["nodes"]:
            at = node["id"]
            memory = taken.get(at, 0), low.get(at, 0), owed.get(at, 0)
            self.check_node(node, *memory, slack_kib=STRAY_KIB * len(guests))

    def check_node(
        self, node: Document, taken_kib: int, low_kib: int, owed_kib: int, *, slack_kib: int
    ) -> None:
        """Check one node: its memory is as it was when the host was made."""
        at = node["id"]
        reserved_kib = sum(one["kib"] for one in node["reserved"])
        # What Xen hands out last is no memory to promise, but guests may come to have it.
        usable_kib = node["free_kib"] - max(0, reserved_kib - low_kib)
        promised_kib = taken_kib + owed_kib
        if taken_kib > node["free_kib"]:
            self.complain(f"guests have {taken_kib} KiB of node {at}: {node['free_kib']} KiB")
        if owed_kib and promised_kib > usable_kib + slack_kib:
            self.complain(
                f"node {at}: {taken_kib} KiB are taken and {owed_kib} KiB promised of {usable_kib}"
            )
        self.most_percent[at] = max(self.most_percent.get(at, 0), promised_kib * 100 // usable_kib)


def identity(file: Path) -> tuple[int, int, int] | None:
    """Return what tells one version of a file from the next."""
    try:
        told = file.stat()
    except FileNotFoundError:
        return None
    return told.st_ino, told.st_mtime_ns, told.st_size


def sum_kib(parts: Guests) -> int:
    """Return the KiB of some memory."""
    return sum(part["high_kib"] + part["low_kib"] for part in parts)


def lives(process: int) -> bool:
    """Return whether a process runs, or waits to be seen off."""
    return Path(f"/proc/{process}").exists()


def outstanding_kib(claims: Guests, boot_id: str, guests: Guests, *, now: float) -> dict[int, int]:
    """Return what is promised and not there yet, by node."""
    memory = {guest["uuid"]: (guest["memory_by_node"] or {}).get("kib", {}) for guest in guests}
    owed: dict[int, int] = {}
    for claim in claims:
        has = memory.get(claim["uuid"])
        lapsed = claim["state"] != PENDING or claim["expires_at"] <= now
        # A guest is there wholly or not at all, so one that is there has had what was promised.
        met = claim["state"] == PENDING if has is not None else lapsed
        # Who was alive after the look was alive when it was promised.
        met = met or (claim["state"] == MOVING and not lives(claim["creator"]))
        if claim["boot_id"] != boot_id or met:
            continue
        for part in claim["memory"]:
            kib = part["kib"] - (has or {}).get(str(part["node"]), 0)
            owed[part["node"]] = owed.get(part["node"], 0) + max(0, kib)
    return owed


def main(folder: str, name: str, cuts: str) -> None:
    """Look until standard input ends."""
    watch = Watch(folder, name)
    os.set_blocking(sys.stdin.fileno(), False)
    with Path(cuts).open("w", encoding="utf-8") as file:
        print("looking", flush=True)
        while sys.stdin.buffer.read(1) != b"":
            cut = watch.look()
            if cut is None:
                time.sleep(PAUSE_S)
            else:
                print(json.dumps(cut), file=file, flush=True)
        # All is quiet now: this cut is the last.
        watch._seen = None  # noqa: SLF001 - looked at once more, whatever was seen
        print(json.dumps(watch.look()), file=file)
    found = {"looks": watch.looks, "cuts": watch.cuts, "complaints": watch.complaints}
    print(json.dumps({**found, "most_promised_percent": max(watch.most_percent.values())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
