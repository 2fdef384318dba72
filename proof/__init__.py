"""What homenode is for, shown on a real hypervisor."""
