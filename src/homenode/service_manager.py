"""Telling systemd how a service is: sd_notify(3), one datagram each.

Without systemd (``NOTIFY_SOCKET`` is not set) nothing is told and nobody minds.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class ServiceManager:
    """Who started this process, as its environment says."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_us = environment.get("WATCHDOG_USEC", "")
        self._watched = environment.get("WATCHDOG_PID", str(os.getpid()))

    @property
    def watchdog_s(self) -> float | None:
        """Within how many seconds it wants to hear from this process; None if it does not."""
        if not self._watchdog_us.isdecimal() or self._watched != str(os.getpid()):
            return None
        return int(self._watchdog_us) / 1e6 or None

    def ready(self, status: str) -> None:
        """Say that the service is up."""
        self._tell(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Say that the loop goes round, and how it is."""
        self._tell(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte of an abstract address.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(text.encode(), address)
