"""Whether the system answers well: tasks with known answers and the scorers of the papers they come from.

The modules for tasks and scorers import ``errors``, ``one_line`` and ``schema`` alone. Generators take a
seed; the same seed gives the same bytes. Sizes are in tokens at ``CHARS_PER_TOKEN``, the estimate that the
rest of the project uses.
"""
