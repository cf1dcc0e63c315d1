"""Where the images of a run come from: folders, patterns, tables, tar shards, object stores."""
