"""Metrics of Prometheus that are read from Redis, shown by Flower; may import what operations may."""
