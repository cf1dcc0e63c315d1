"""Prompts select among the segments of one image, without another run of the network.

Each row of an answer has the number of its prompt and a fit:

| prompt            | number                   | fit of a row                                              |
|-------------------|--------------------------|-----------------------------------------------------------|
| Everything        | none                     | none                                                      |
| Points, "merge"   | 0                        | fraction of the foreground points inside the object       |
| Points, "each"    | index of the point       | score of the segment                                      |
| Points, "all"     | 0                        | fraction of the foreground points inside the segment      |
| Boxes             | index of the box         | IoU of mask and box                                       |
| Text              | index of the text        | cosine of the features of mask and text                   |

A kind of prompt is one module of this package and one line in `kinds.py`. Its class defines what it selects, its JSON,
the check that it fits an image, and what is drawn for it. `base.PromptKind` describes the interface.
"""
