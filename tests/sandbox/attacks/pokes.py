"""Memory that is not ours."""

ctypes.string_at(0)
