"""WebAssembly modules: bytes in, a decoded and validated module out. Knows nothing of compiling or running them.

`decode.decode` finds the parts of a module, `body.decode_body` the opcodes of one function, `validate` types both.
"""
