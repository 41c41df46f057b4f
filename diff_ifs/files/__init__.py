"""What is read from disk and written to it, and what the commands share."""
