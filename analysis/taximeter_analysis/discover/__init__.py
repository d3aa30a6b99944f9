"""The plan's discovery phase: what a code base calls, where, and what traces have never seen of it."""
