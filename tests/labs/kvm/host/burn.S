# A firmware of 64 KiB that keeps every vcpu busy: the first one goes to protected mode, tells all
# others to start (INIT, then SIPI twice; Intel's SDM 3A, 9.4.4), and all of them spin.
        .code16
        .org 0                          # vector 0xf0 of SIPI: the others begin here
1:      incl    %eax
        jmp     1b

        .org 0x100
start:  cli
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   table
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $(0xf0000 + flat)
        .code32
flat:   movw    $16, %ax
        movw    %ax, %ds
        movl    $0x1ff, 0xfee000f0      # the local APIC is on
        movl    $0x000c4500, 0xfee00300 # INIT to all but oneself
        movl    $1000000, %ecx
2:      loop    2b
        movl    $0x000c46f0, 0xfee00300 # SIPI
        movl    $100000, %ecx
3:      loop    3b
        movl    $0x000c46f0, 0xfee00300
4:      incl    %eax
        jmp     4b

        .align  8
entries: .quad  0, 0x00cf9a000000ffff, 0x00cf92000000ffff
table:  .word   23
        .long   0xf0000 + entries

        .org    0xfff0
        .code16
        ljmp    $0xf000, $start
        .org    0x10000
