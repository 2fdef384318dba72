"""The hypervisors, and the files that describe one; every driver keeps `homenode.drivers.base`."""
