"""The embedded Redis server and the process that keeps it; may import what ``local`` may."""
