"""The REPL that runs model-written code: ``host`` starts and limits it, ``inside`` is what runs in the child."""
