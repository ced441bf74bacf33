"""Other systems that do the same, and this one, each as a process that prints its figures as one JSON line.

``python -m rlm_dist.bench.peers.NAME URL CALLS IN_FLIGHT``: at the endpoint ``URL``, ``CALLS`` sub-calls of
one query, ``IN_FLIGHT`` at once; 0 is the peer's own default. With a fourth argument ``QUERIES``, ``rlms``
and ``dspy_rlm`` ask many small queries in threads instead, see ``at_once``. Peers are imported by their
own module only.
"""
