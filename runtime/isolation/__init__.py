"""Work on files of strangers in a process of its own, with limits on its time and memory."""
