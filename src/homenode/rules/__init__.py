"""What the hypervisors do, as pure functions of numbers and maps; each names its source."""
