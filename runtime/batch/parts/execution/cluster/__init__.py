"""Chunks on the machines of a Ray cluster: one actor a worker, which holds one model.

    driver ──task──► actor (ChunkWorker) ──part──► output
           ◄─outcome─                     ◄─chunk─

Numbers travel between driver and actors, images and results do not: an actor reads its chunk from the listing in the
output, and writes the part itself. docs/adr/0038 says why these are plain actors and not a pipeline of Ray Data.
"""
