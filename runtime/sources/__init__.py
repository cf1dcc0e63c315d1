"""Sources of images: files, folders, patterns and videos."""
