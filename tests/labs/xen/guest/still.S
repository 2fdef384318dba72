/* The firmware of an HVM guest that stands still: halts on its first vCPU, and
 * the others are never started. No Xen notes, or libxl would not take it.
 *   as --32 -o still.o still.S && ld -m elf_i386 -nostdlib -N -Ttext=0x100000 -o still still.o
 */
        .code32
        .globl  _start
_start: sti                                     /* to halt with interrupts off */
        hlt                                     /* would be to power off */
        jmp     _start
