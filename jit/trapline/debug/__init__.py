"""Debugging: what compiled programs say of their sources."""
