"""WebAssembly to native code, with the state of every opcode."""
