"""What misplacement costs on a machine, measured: the four cases of the series, side by side.

The author of the series measured a guest in four ways ("default", "pinned", "best case" and "worst
case", http://xenbits.xen.org/people/dariof/benchmarks/numa-scheduling/kernbench-notmpfs): left
alone; pinned to a node with its memory striped over all of them; pinned to the node that it was
created on; and pinned to another one. `protocol` says what these are on a host and in which order
they run, `results` what they say together: both are pure. `hardware` describes the machine.
`workers` has processes of our own do the work (`worker` is what each of them runs, `memory_policy`
the system calls), `guests` has a user's guest do it.
"""
