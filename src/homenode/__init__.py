"""homenode: virtual machines on the NUMA nodes of a host.

The package is imported on the way to every decision, so it imports nothing itself:
take what is needed from its modules, `homenode.placement` first.
"""

__version__ = "0.1.0"
