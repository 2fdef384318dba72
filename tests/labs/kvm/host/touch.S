# A firmware of 64 KiB that writes to every page of the guest's memory above 1 MiB, slowly, and then
# halts: memory that is touched after the start. How much there is QEMU says as a PC's CMOS does:
# bytes 0x34 and 0x35 count 64 KiB from 16 MiB on.
        .code16
        .org 0x100
start:  cli
        movw    %cs, %ax
        movw    %ax, %ds
        movb    $0x35, %al
        outb    %al, $0x70
        inb     $0x71, %al
        movb    %al, %ah
        movb    $0x34, %al
        outb    %al, $0x70
        inb     $0x71, %al
        movzwl  %ax, %ebx
        shll    $16, %ebx
        addl    $0x1000000, %ebx        # the end of memory
        lgdtl   table
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $(0xf0000 + flat)
        .code32
flat:   movw    $16, %ax
        movw    %ax, %ds
        movl    $0x100000, %edi
1:      movl    %edi, (%edi)
        movl    $2000, %ecx
2:      loop    2b
        addl    $4096, %edi
        cmpl    %ebx, %edi
        jb      1b
3:      hlt
        jmp     3b

        .align  8
entries: .quad  0, 0x00cf9a000000ffff, 0x00cf92000000ffff
table:  .word   23
        .long   0xf0000 + entries

        .org    0xfff0
        .code16
        ljmp    $0xf000, $start
        .org    0x10000
