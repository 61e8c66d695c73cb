/* Between Python and WebAssembly code: the types WasmFunction, HostFunction, Memory, Table and Block.
 *
 * A value in transit is a word of 8 bytes: integers and floats of 32 bits in the low half, references as
 * `convert.to_word(value, code)` makes them and `convert.from_word(word, code)` takes them. Type codes:
 *
 *   i i32   l i64   f f32   d f64   r externref   R funcref
 *
 * Lifetimes: native code holds addresses of records, blocks, memories and tables without references; whoever hands such an
 * address out keeps the object (an Instance those it was made from, `owner` of a WasmFunction the instance).
 */
#ifndef TL_PY_WASM_H
#define TL_PY_WASM_H

#include "py_core.h"

#include "helpers.h"

typedef struct wasm_function {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    uint64_t thunk;   /* entry thunk of its signature: a C function of the words and the record */
    uint64_t record;  /* address of its struct tl_function_record */
    PyObject *params, *results; /* bytes of type codes */
    PyObject *name, *owner;
    PyObject *handler; /* called with each event, or None: a stop raises */
    PyObject *convert;
    Py_ssize_t word_count;
    size_t stack_bytes, max_stack_bytes;
    uint8_t path, gil;
} WasmFunctionObject;

typedef struct {
    PyObject_HEAD
    struct tl_function_record record;
    uint64_t block[TL_BLOCK_WORDS];
    PyObject *params, *results; /* bytes of type codes */
    PyObject *name, *callable, *convert;
    PyObject *caller; /* makes the first argument out of the calling instance, or None: no such argument */
} HostFunctionObject;

HIDDEN extern PyTypeObject py_wasm_function_type, py_host_function_type, py_memory_type, py_table_type, py_block_type;

/* py_words.c */
/* 0, or -1 with an exception: the codes are bytes of i l f d r R, at most 1000. */
HIDDEN int py_check_word_codes(const char *what, PyObject *codes);
/* Interned strings that conversions need. 0, or -1 with an exception. */
HIDDEN int py_words_start(void);
/* One word out of a value: 0, -1 with an exception, or 1: the value does not fit the code. */
HIDDEN int py_word(char code, PyObject *value, PyObject *convert, uint64_t *word);
/* The exception for that: CallError with function, place, found and expected. `index` < 0: the only one. Returns -1. */
HIDDEN int py_word_error(PyObject *function, const char *place, Py_ssize_t index, char code, PyObject *value);
HIDDEN PyObject *py_word_value(char code, uint64_t word, PyObject *convert);
/* What a function with these results returned: None, a value, or a tuple. */
HIDDEN PyObject *py_words_value(PyObject *results, const uint64_t *words, PyObject *convert);
/* The exception that is set, taken out of the thread: an owned reference. */
HIDDEN PyObject *py_take_exception(void);

/* py_wasm.c */
HIDDEN PyObject *py_wasm_result(const WasmFunctionObject *self, const uint64_t *words);

/* py_host.c */
/* Answers the request that `fiber` stopped at; the GIL is held. 0, or -1 with an exception: the request stands. */
HIDDEN int py_serve_request(struct tl_fiber *fiber);
/* wasm_frames(fiber=None, most=0). */
HIDDEN PyObject *py_wasm_frames(PyObject *module, PyObject *const *args, Py_ssize_t count);
HIDDEN int py_host_start(void);

#endif
