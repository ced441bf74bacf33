"""A small model on this machine, for a first run and for tests without an endpoint (extra ``local``)."""
