"""`fastsam serve`: images over HTTP, without Triton.

The modules here are plain Python: what happens to a request, in threads. `web` puts FastAPI and uvicorn around them.
"""
