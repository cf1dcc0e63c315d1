"""FastAPI and uvicorn around `Service`. Only these modules import them: they come with the extra `[serve]`."""
