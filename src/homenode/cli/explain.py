"""``homenode explain``: tell why a guest goes where it goes, or why nowhere."""

from homenode.cli.place import decide


def run(arguments: list[str]) -> int:
    """Run the verb."""
    return decide(arguments, "explain", explaining=True)
