"""A request and an answer as bytes: what travels between a client and the Triton models."""
