"""A host as a picture: for the terminal, and for a report.

What there is to see is worked out once, what it looks like twice:

============== ===================================================================
`memory`       what a node's memory is used for, tiers of memory, huge pages
`hierarchy`    sockets, dies, last-level caches, cores; what memory is near whom
`devices`      the devices of every node, by kind
`tables`       distances, latencies, bandwidths; nodes that are alike share a row
`words`        sentences about all of these
`terminal`     the picture as text
`svg`          the picture as one SVG document
============== ===================================================================

Nothing here decides or measures: what the host does not tell is drawn as unknown. Names come from
anywhere and pass through `printable` before anyone sees them.
"""

LONGEST_NAME = 40
"""Characters of a name that are shown."""


def printable(text: str) -> str:
    """Return `text` without what would steer a terminal or break a document."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def name_text(name: str) -> str:
    """Return a name as people are shown it: printable, and cut if it is very long."""
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 3] + "..."
