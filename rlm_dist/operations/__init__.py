"""What operators look at, from doctor to Flower; may import client, llm, engine, store and blobs."""
