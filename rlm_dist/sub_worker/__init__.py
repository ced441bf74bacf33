"""The worker that claims calls, asks the model and settles them; may import worker and what it may."""
