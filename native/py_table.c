/* The types Table, words of references, and Block, native memory for blocks of words. */
#define _GNU_SOURCE
#include "py_wasm.h"

#include <stdlib.h>

#include "memory.h"
#include "table.h"

/* ---- tables ---- */

typedef struct {
    PyObject_HEAD
    struct tl_table *table;
} TableObject;

static int table_made(const TableObject *self) {
    if (self->table) return 1;
    PyErr_SetString(py_fiber_error, "this table was never initialised");
    return 0;
}

static uint64_t *entry_at(TableObject *self, PyObject *key) {
    if (!table_made(self)) return NULL;
    uint64_t index = PyLong_AsUnsignedLongLong(key), count = self->table->count;
    if (index == (uint64_t)-1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return NULL;
        PyErr_Clear();
    }
    if (index < count) return &self->table->elements[index];
    PyErr_Format(py_memory_error, "table of %llu entries: found index %R", (unsigned long long)count, key);
    return NULL;
}

/* A word by its value or, negative, as two's complement: 0, or -1 with an exception. */
static int word_of(PyObject *value, uint64_t *word) {
    *word = PyLong_AsUnsignedLongLongMask(value);
    return *word == (uint64_t)-1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *table_get_word(TableObject *self, PyObject *index) {
    const uint64_t *entry = entry_at(self, index);
    return entry ? PyLong_FromUnsignedLongLong(*entry) : NULL;
}

static PyObject *table_set_word(TableObject *self, PyObject *const *args, Py_ssize_t count) {
    uint64_t word, *entry;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "set_word(index, word)");
    if (word_of(args[1], &word) || !(entry = entry_at(self, args[0]))) return NULL;
    *entry = word;
    Py_RETURN_NONE;
}

static PyObject *table_grow(TableObject *self, PyObject *const *args, Py_ssize_t count) {
    uint64_t word;
    int overflow;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "grow(entries, word)");
    if (!table_made(self) || word_of(args[1], &word)) return NULL;
    long long more = PyLong_AsLongLongAndOverflow(args[0], &overflow);
    if (more == -1 && !overflow && PyErr_Occurred()) return NULL;
    if (overflow < 0 || (!overflow && more < 0))
        return PyErr_Format(py_memory_error, "a table grows by 0 or more entries, found %R", args[0]);
    if (overflow || more > UINT32_MAX) return PyLong_FromLong(-1);
    uint32_t before = tl_table_grow(self->table, word, (uint32_t)more);
    return before == TL_GROW_FAILED ? PyLong_FromLong(-1) : PyLong_FromUnsignedLong(before);
}

static int table_init(TableObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"minimum", "maximum", NULL};
    Py_ssize_t minimum, maximum = UINT32_MAX;
    PyObject *limit;
    int error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nO", names, &minimum, &limit)) return -1;
    if (limit != Py_None) {
        maximum = PyNumber_AsSsize_t(limit, PyExc_ValueError);
        if (maximum == -1 && PyErr_Occurred()) return -1;
    }
    if (self->table) {
        PyErr_SetString(py_fiber_error, "a table is initialised once");
        return -1;
    }
    if (minimum < 0 || maximum < minimum || maximum > (Py_ssize_t)UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "found %zd to %zd entries, expected 0 <= minimum <= maximum < 2**32", minimum, maximum);
        return -1;
    }
    if (minimum > (Py_ssize_t)TL_TABLE_MOST) {
        PyErr_Format(py_native_error, "a table of %zd entries: a table has at most %d", minimum, (int)TL_TABLE_MOST);
        return -1;
    }
    self->table = tl_table_new((uint64_t)minimum, (uint64_t)maximum, &error);
    if (self->table) return 0;
    PyErr_Format(py_native_error, "a table of %zd entries: the system refused: %s", minimum, strerror(-error));
    return -1;
}

static void table_dealloc(TableObject *self) {
    if (self->table) tl_table_free(self->table);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *table_descriptor(TableObject *self, void *unused) {
    (void)unused;
    return table_made(self) ? PyLong_FromVoidPtr(self->table) : NULL;
}

static PyObject *table_count(TableObject *self, void *unused) {
    (void)unused;
    return table_made(self) ? PyLong_FromUnsignedLongLong(self->table->count) : NULL;
}

static PyMethodDef table_methods[] = {
    {"get_word", (PyCFunction)table_get_word, METH_O, "get_word(index): the entry."},
    {"set_word", (PyCFunction)(void (*)(void))table_set_word, METH_FASTCALL, "set_word(index, word)."},
    {"grow", (PyCFunction)(void (*)(void))table_grow, METH_FASTCALL, "grow(entries, word): the count before, or -1."},
    {NULL},
};

static PyGetSetDef table_getset[] = {
    {"descriptor", (getter)table_descriptor, NULL, "Address of its struct tl_table.", NULL},
    {"count", (getter)table_count, NULL, "How many entries it has.", NULL},
    {NULL},
};

PyTypeObject py_table_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.Table",
    .tp_basicsize = sizeof(TableObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "A table of references, as words.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)table_init,
    .tp_dealloc = (destructor)table_dealloc,
    .tp_methods = table_methods,
    .tp_getset = table_getset,
};

/* ---- blocks ---- */

#define BLOCK_ALIGN 16

typedef struct {
    PyObject_HEAD
    uint8_t *bytes;
    Py_ssize_t size_bytes;
} BlockObject;

static int block_init(BlockObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"size_bytes", NULL};
    Py_ssize_t size_bytes;
    void *bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n", names, &size_bytes)) return -1;
    if (self->bytes) {
        PyErr_SetString(py_fiber_error, "a block is initialised once");
        return -1;
    }
    if (size_bytes < 0) {
        PyErr_Format(PyExc_ValueError, "a block of %zd bytes", size_bytes);
        return -1;
    }
    if (posix_memalign(&bytes, BLOCK_ALIGN, size_bytes ? (size_t)size_bytes : 1)) {
        PyErr_NoMemory();
        return -1;
    }
    memset(bytes, 0, (size_t)size_bytes);
    self->bytes = bytes;
    self->size_bytes = size_bytes;
    return 0;
}

static void block_dealloc(BlockObject *self) {
    free(self->bytes);
    Py_TYPE(self)->tp_free(self);
}

static uint8_t *word_at(BlockObject *self, PyObject *offset_object) {
    Py_ssize_t offset = PyNumber_AsSsize_t(offset_object, NULL);
    if (offset == -1 && PyErr_Occurred()) return NULL;
    if (offset >= 0 && offset <= self->size_bytes - 8) return self->bytes + offset;
    PyErr_Format(py_memory_error, "block of %zd bytes: found a word at offset %zd", self->size_bytes, offset);
    return NULL;
}

static PyObject *block_get(BlockObject *self, PyObject *offset) {
    uint64_t word;
    const uint8_t *place = word_at(self, offset);
    if (!place) return NULL;
    memcpy(&word, place, 8);
    return PyLong_FromUnsignedLongLong(word);
}

static PyObject *block_set(BlockObject *self, PyObject *const *args, Py_ssize_t count) {
    uint64_t word;
    uint8_t *place;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "set(offset, word)");
    if (word_of(args[1], &word) || !(place = word_at(self, args[0]))) return NULL;
    memcpy(place, &word, 8);
    Py_RETURN_NONE;
}

static int block_getbuffer(BlockObject *self, Py_buffer *view, int flags) {
    static uint8_t nothing;
    return PyBuffer_FillInfo(view, (PyObject *)self, self->bytes ? self->bytes : &nothing, self->size_bytes, 0, flags);
}

static Py_ssize_t block_length(BlockObject *self) { return self->size_bytes; }

static PyObject *block_address(BlockObject *self, void *unused) {
    (void)unused;
    return PyLong_FromVoidPtr(self->bytes);
}

static PyMethodDef block_methods[] = {
    {"get", (PyCFunction)block_get, METH_O, "get(offset): the word there."},
    {"set", (PyCFunction)(void (*)(void))block_set, METH_FASTCALL, "set(offset, word)."},
    {NULL},
};

static PyGetSetDef block_getset[] = {
    {"address", (getter)block_address, NULL, "Where it lies: a multiple of 16.", NULL},
    {NULL},
};

static PySequenceMethods block_sequence = {.sq_length = (lenfunc)block_length};
static PyBufferProcs block_buffer = {.bf_getbuffer = (getbufferproc)block_getbuffer};

PyTypeObject py_block_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.Block",
    .tp_basicsize = sizeof(BlockObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "Zeroed native memory that native code is given the address of.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)block_init,
    .tp_dealloc = (destructor)block_dealloc,
    .tp_as_sequence = &block_sequence,
    .tp_as_buffer = &block_buffer,
    .tp_methods = block_methods,
    .tp_getset = block_getset,
};
