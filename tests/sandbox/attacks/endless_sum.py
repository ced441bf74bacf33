"""A loop in C that never looks at signals."""

sum(range(10**14))
