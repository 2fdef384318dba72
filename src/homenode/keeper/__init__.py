"""The keeper: guests stay at home while it has room, spread when it has not, and come back.

Soft affinity that works, from user space. Xen's credit2 lets vcpus drift away from what they
prefer, and KVM has no such preference; so once in a few seconds the keeper looks how much each vcpu
ran and waited, and holds it to cpus of its own choosing::

          node 0 (home of A)      node 1 (near)        node 2 (far)
         +------------------+   +---------------+   +---------------+
   hold  | A A              |   |               |   |               |  there is room: stay
  spread | A A . . . . . . .|. .|. A            |   |               |  one more than fits: one goes,
         +------------------+   +---------------+   +---------------+  to the nearest with room
  return | A A  <- - - - - -|- -|               |   |               |  one of them ended: come back

Each round is the same walk, with no way back:

1. a `Watcher` of `homenode.drivers` looks, once, and cheaply: how long each vcpu ran and waited;
2. `homenode.keeper.rule` decides: a pure function of what was measured, and of what it decided
   before. It knows no hypervisor, and so it serves simulated schedulers as well;
3. `homenode.keeper_record` notes which masks are to be set and what they replace, on the disk;
4. the `Watcher` sets them, and `homenode.keeper.loop` reports.

What it is not good for: loads that change within seconds (it acts on averages over some ten), and
guests whose user has pinned them, which it leaves alone.
"""
