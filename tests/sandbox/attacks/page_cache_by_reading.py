"""Which pages of a library are in memory, by reading without waiting, and after asking for them to be dropped."""

RWF_NOWAIT = 8
DONT_NEED = 4
library = os.open(os.__file__, os.O_RDONLY)
attempt(lambda: os.preadv(library, [bytearray(100)], 0, RWF_NOWAIT), "a reading that does not wait")
attempt(lambda: os.posix_fadvise(library, 0, 0, DONT_NEED) or True, "pages dropped")
