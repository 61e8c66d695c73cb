"""WebAssembly modules: bytes in, a decoded and validated module out. Knows nothing of compiling or running them.

`decode.decode` finds the parts of a module, `body.decode_body` the opcodes of one function, `validate` types both.
Sections of the core specification are cited by their numbers in version 2.0. Where version 3.0 relaxed a rule for
modules without its new types (constant expressions may read earlier globals of the module itself), its rule holds.
"""
