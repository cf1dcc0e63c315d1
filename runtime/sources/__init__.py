"""Where images come from: files, folders, patterns and videos."""
