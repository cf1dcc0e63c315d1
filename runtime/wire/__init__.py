"""The format of requests and answers between a client and the Triton models."""
