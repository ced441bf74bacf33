"""``rlm-dist submit`` and ``results``: a batch in, its results out."""
