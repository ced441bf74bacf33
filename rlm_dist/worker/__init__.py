"""What both workers are made of; may import store, blobs, contexts, llm, broker, local, sandbox, settings."""
