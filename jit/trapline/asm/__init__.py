"""Encodings: text to machine code, machine code to text, and one instruction moved to another address."""
