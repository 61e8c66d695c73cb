"""SSA to x86-64: what each instruction asks of its operands, and the bytes it becomes."""
