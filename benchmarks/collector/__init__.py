"""The collector beside the official one: the same file, the same input, one pinned core."""
