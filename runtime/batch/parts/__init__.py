"""A million images: restartable runs whose results are Parquet parts, on one machine or on several.

    source ──► listing ──► chunks ──► workers ──► parts ──► reader, export
                          (plan.json)  (execution)

`sources` lists the images of a source. The listing is stored in the output and cut into chunks of a fixed number of
images. A worker segments the images of a chunk and writes them as one part, whose name is the number of the chunk. A
part appears whole or not at all (one rename, or one put of an object), and a chunk is done if and only if its part is
there. Nothing else is remembered, so that any process may be killed at any moment.
"""
