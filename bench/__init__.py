"""Measurements: one file a question, run by ``python -m bench``; results with their machine in bench/results."""
