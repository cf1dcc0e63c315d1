"""How image files are opened and decoded: from a path, bytes or a stream to the stored pixels."""
