# The smallest guest: a firmware of 64 KiB that halts. Its other vcpus wait to be started for ever. It
# touches no memory: of that there is as much as was allocated when the guest started.
        .code16
        .org 0xfff0
        cli
1:      hlt
        jmp 1b
        .org 0x10000
