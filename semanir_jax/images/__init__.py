"""Image files in and out, their metadata, colours and sizes."""
