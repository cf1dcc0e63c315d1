"""Prompts pick among the segments of one image. The network is not run again.

A row of an answer carries the number of its prompt and a fit:

| prompt            | numbers                  | fit of a row                                              |
|-------------------|--------------------------|-----------------------------------------------------------|
| Everything        | none                     | none                                                      |
| Points, "merge"   | 0                        | part of the foreground points that the object holds       |
| Points, "each"    | index of the point       | score of the segment                                      |
| Points, "all"     | 0                        | part of the foreground points that the segment holds      |
| Boxes             | index of the box         | IoU of mask and box                                       |
| Text              | index of the text        | cosine of the features of mask and text                   |

A kind of prompt is one file here and one line in `kinds.py`: the class says what it picks, how it is written as JSON,
whether it fits an image, and what is drawn of it. `base.PromptKind` has the whole of it.
"""
