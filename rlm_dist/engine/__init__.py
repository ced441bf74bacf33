"""The root loop of one job, as pure code: parsing, prompts, observation and journal; it does no I/O."""
