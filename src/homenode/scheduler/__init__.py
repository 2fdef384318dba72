"""Models of how vcpus are given cpus."""
