"""Taximeter: the meter on every request."""
