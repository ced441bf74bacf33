"""The sandboxed REPL for model-written code: ``host`` controls it, ``inside`` runs in the child process."""
