"""Where chunks are segmented: processes of this machine, or others that take the same tasks."""
