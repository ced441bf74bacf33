"""The REPL for model-written code: ``host`` outside, ``inside`` in the child; may import schema."""
