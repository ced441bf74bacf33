"""The sub worker: claims sub-calls, makes many at once, and settles them."""
