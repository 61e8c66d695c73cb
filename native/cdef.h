/* What Python sees of the core: declarations for ffi.cdef. No preprocessor but "#define NAME ...". */
