"""What is to happen, in order of time: a heap of numbers, each of which is a whole event.

An event is ``time << 20 | kind << 16 | index``: it is compared, moved and kept as one number, so
that nothing is allocated for it, and events at the same time have one order in every build.
Interpreted, the heap is that of Python's `heapq`; compiled, the one below it. Both give the
smallest number first, and equal numbers are the same event.
"""

from heapq import heappop, heappush

from homenode.scheduler import flat

LATEST_NS = 1 << 43
"""The end of time: what is later does not fit in an event (8796 s)."""


class Agenda:
    """A heap of events."""

    def __init__(self) -> None:
        self._heap: list[int] = []
        self._flat = flat.integers(64)
        self._size = 0

    def push(self, event: int) -> None:
        """Add an event."""
        heappush(self._heap, event)

    def pop(self) -> int:
        """Return the first event and take it out; there has to be one."""
        return heappop(self._heap)


class FlatAgenda(Agenda):
    """The same on a flat array, for where heapq's numbers would have to be made first."""

    def push(self, event: int) -> None:
        """Add an event."""
        at = self._size
        if at == len(self._flat):
            self._grow()
        self._size = at + 1
        heap = self._flat
        while at > 0:
            above = (at - 1) >> 1
            if heap[above] <= event:
                break
            heap[at] = heap[above]
            at = above
        heap[at] = event

    def pop(self) -> int:
        """Return the first event and take it out; there has to be one."""
        heap = self._flat
        first = heap[0]
        size = self._size - 1
        self._size = size
        event = heap[size]
        at = 0
        below = 1
        while below < size:
            if below + 1 < size and heap[below + 1] < heap[below]:
                below += 1
            if event <= heap[below]:
                break
            heap[at] = heap[below]
            at = below
            below = 2 * at + 1
        heap[at] = event
        return first

    def _grow(self) -> None:
        larger = flat.integers(2 * len(self._flat))
        for at in range(self._size):
            larger[at] = self._flat[at]
        self._flat = larger
