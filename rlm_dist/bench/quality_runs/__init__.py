"""Runs of the quality tasks: methods as data, a folder that is taken up again, reports and comparisons.

All methods run as batches of the cluster, through the same limits, ledger and cache.
"""
