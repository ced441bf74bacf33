"""Flower with pages of ours: batches, a batch, a job, endpoints, and two batches compared.

``serve`` starts it, ``handlers`` answers requests, and a module ``…_page`` has the data of each page. What
people wrote or models said is shown only with ``--show-content``.
"""
