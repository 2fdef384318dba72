# The same as flat.py in C, for the compiled build.

cdef extern from *:
    """
    static inline int homenode_lowest_bit(unsigned long long word) { return __builtin_ctzll(word); }
    static inline int homenode_count_bits(unsigned long long word) { return __builtin_popcountll(word); }
    """
    int homenode_lowest_bit(unsigned long long word) nogil
    int homenode_count_bits(unsigned long long word) nogil

cdef inline unsigned long long bit(long long cpu) noexcept:
    return <unsigned long long>1 << (cpu & 63)

cdef inline int lowest_bit(unsigned long long word) noexcept:
    return homenode_lowest_bit(word)

cdef inline int count_bits(unsigned long long word) noexcept:
    return homenode_count_bits(word)

cdef inline long long whole(double number) noexcept:
    return <long long>number
