"""The REPL that runs model-written code: ``host`` starts it, ``inside`` runs in the child."""
