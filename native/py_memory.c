/* The type Memory: a linear memory that Python reads and writes like a bytearray. */
#include "py_wasm.h"

#include "memory.h"

typedef struct {
    PyObject_HEAD
    struct tl_memory *memory;
} MemoryObject;

static int made(const MemoryObject *self) {
    if (self->memory) return 1;
    PyErr_SetString(py_fiber_error, "this memory was never initialised");
    return 0;
}

static Py_ssize_t size_of(const MemoryObject *self) { return (Py_ssize_t)self->memory->bytes; }

/* ---- bytes ---- */

/* An exported buffer holds a reference to the object, so the memory outlives it; a memory that grows does not move, so it
 * shows the bytes that there were. */
static int memory_getbuffer(MemoryObject *self, Py_buffer *view, int flags) {
    if (!made(self)) {
        view->obj = NULL;
        return -1;
    }
    return PyBuffer_FillInfo(view, (PyObject *)self, self->memory->base, size_of(self), 0, flags);
}

static Py_ssize_t memory_length(MemoryObject *self) { return made(self) ? size_of(self) : -1; }

/* The address of one byte, or NULL with an exception. */
static uint8_t *byte_at(MemoryObject *self, PyObject *key) {
    Py_ssize_t index = PyNumber_AsSsize_t(key, py_memory_error), size = size_of(self);
    if (index == -1 && PyErr_Occurred()) return NULL;
    Py_ssize_t at = index < 0 ? index + size : index;
    if (at >= 0 && at < size) return self->memory->base + at;
    PyErr_Format(py_memory_error, "memory of %zd bytes: found index %zd", size, index);
    return NULL;
}

struct part {
    Py_ssize_t start, step, count;
};

static int part_of(MemoryObject *self, PyObject *key, struct part *part) {
    Py_ssize_t stop;
    if (!PySlice_Check(key)) {
        PyErr_Format(PyExc_TypeError, "memory indices are integers or slices, not %s", Py_TYPE(key)->tp_name);
        return -1;
    }
    if (PySlice_Unpack(key, &part->start, &stop, &part->step)) return -1;
    part->count = PySlice_AdjustIndices(size_of(self), &part->start, &stop, part->step);
    return 0;
}

static PyObject *memory_get(MemoryObject *self, PyObject *key) {
    struct part part;
    if (!made(self)) return NULL;
    if (PyIndex_Check(key)) {
        const uint8_t *byte = byte_at(self, key);
        return byte ? PyLong_FromLong(*byte) : NULL;
    }
    if (part_of(self, key, &part)) return NULL;
    const uint8_t *from = self->memory->base + part.start;
    if (part.step == 1) return PyBytes_FromStringAndSize((const char *)from, part.count);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, part.count);
    for (Py_ssize_t i = 0; bytes && i < part.count; i++) PyBytes_AS_STRING(bytes)[i] = (char)from[i * part.step];
    return bytes;
}

static int set_byte(MemoryObject *self, PyObject *key, PyObject *value) {
    long byte = PyLong_AsLong(value);
    if (byte == -1 && PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_OverflowError)) return -1;
    if (byte < 0 || byte > 255) {
        PyErr_Clear();
        PyErr_SetString(PyExc_ValueError, "a byte of a memory is 0 .. 255");
        return -1;
    }
    uint8_t *place = byte_at(self, key); /* after what may run Python code */
    if (place) *place = (uint8_t)byte;
    return place ? 0 : -1;
}

static int memory_set(MemoryObject *self, PyObject *key, PyObject *value) {
    struct part part;
    Py_buffer from;
    if (!made(self)) return -1;
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "bytes of a memory cannot be deleted");
        return -1;
    }
    if (PyIndex_Check(key)) return set_byte(self, key, value);
    if (part_of(self, key, &part) || PyObject_GetBuffer(value, &from, PyBUF_SIMPLE)) return -1;
    int ok = from.len == part.count;
    uint8_t *to = self->memory->base + part.start;
    if (!ok) {
        PyErr_Format(py_memory_error, "memory of %zd bytes: found %zd bytes for a slice of %zd", size_of(self), from.len, part.count);
    } else if (part.step == 1) {
        memmove(to, from.buf, (size_t)part.count);
    } else {
        for (Py_ssize_t i = 0; i < part.count; i++) to[i * part.step] = ((const uint8_t *)from.buf)[i];
    }
    PyBuffer_Release(&from);
    return ok ? 0 : -1;
}

/* ---- the rest ---- */

static PyObject *memory_grow(MemoryObject *self, PyObject *delta) {
    if (!made(self)) return NULL;
    int overflow;
    long long pages = PyLong_AsLongLongAndOverflow(delta, &overflow);
    if (pages == -1 && !overflow && PyErr_Occurred()) return NULL;
    if (overflow < 0 || (!overflow && pages < 0))
        return PyErr_Format(py_memory_error, "a memory of %zd bytes grows by 0 or more pages, found %R", size_of(self), delta);
    if (overflow || pages > UINT32_MAX) return PyLong_FromLong(-1);
    uint32_t before = tl_memory_grow(self->memory, (uint32_t)pages);
    return before == TL_GROW_FAILED ? PyLong_FromLong(-1) : PyLong_FromUnsignedLong(before);
}

static int memory_init(MemoryObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"min_pages", "max_pages", "checked_only", NULL};
    Py_ssize_t min_pages, max_pages = TL_MEMORY_MOST_PAGES;
    PyObject *maximum;
    int checked_only, error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nOp", names, &min_pages, &maximum, &checked_only)) return -1;
    if (maximum != Py_None) {
        max_pages = PyNumber_AsSsize_t(maximum, PyExc_ValueError);
        if (max_pages == -1 && PyErr_Occurred()) return -1;
    }
    if (self->memory) {
        PyErr_SetString(py_fiber_error, "a memory is initialised once");
        return -1;
    }
    if (min_pages < 0 || max_pages < min_pages || max_pages > (Py_ssize_t)TL_MEMORY_MOST_PAGES) {
        PyErr_Format(PyExc_ValueError, "found %zd to %zd pages, expected 0 <= min_pages <= max_pages <= %d", min_pages, max_pages,
                     (int)TL_MEMORY_MOST_PAGES);
        return -1;
    }
    self->memory = tl_memory_new((uint64_t)min_pages, (uint64_t)max_pages, checked_only, &error);
    if (self->memory) return 0;
    PyErr_Format(py_native_error, "a memory of %zd pages: the system refused: %s", min_pages, strerror(-error));
    return -1;
}

static void memory_dealloc(MemoryObject *self) {
    if (self->memory) tl_memory_free(self->memory);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *memory_address(MemoryObject *self, void *unused) {
    (void)unused;
    return made(self) ? PyLong_FromVoidPtr(self->memory->base) : NULL;
}

static PyObject *memory_descriptor(MemoryObject *self, void *unused) {
    (void)unused;
    return made(self) ? PyLong_FromVoidPtr(self->memory) : NULL;
}

static PyObject *memory_pages(MemoryObject *self, void *unused) {
    (void)unused;
    return made(self) ? PyLong_FromSsize_t(size_of(self) / (Py_ssize_t)TL_WASM_PAGE_BYTES) : NULL;
}

static PyObject *memory_max_pages(MemoryObject *self, void *unused) {
    (void)unused;
    return made(self) ? PyLong_FromUnsignedLongLong(self->memory->max_pages) : NULL;
}

static PyObject *memory_reserved_bytes(MemoryObject *self, void *unused) {
    (void)unused;
    return made(self) ? PyLong_FromUnsignedLongLong(self->memory->reserved_bytes) : NULL;
}

static PyObject *memory_checked(MemoryObject *self, void *unused) {
    (void)unused;
    return made(self) ? PyBool_FromLong((long)self->memory->checked) : NULL;
}

static PyMethodDef memory_methods[] = {
    {"grow", (PyCFunction)memory_grow, METH_O, "grow(pages): the number of pages before, or -1."},
    {NULL},
};

static PyGetSetDef memory_getset[] = {
    {"address", (getter)memory_address, NULL, "Where it lies; it never moves.", NULL},
    {"descriptor", (getter)memory_descriptor, NULL, "Address of its struct tl_memory.", NULL},
    {"pages", (getter)memory_pages, NULL, "Its size in pages of 64 KiB.", NULL},
    {"max_pages", (getter)memory_max_pages, NULL, "What it may grow to.", NULL},
    {"reserved_bytes", (getter)memory_reserved_bytes, NULL, "Address space it can grow into.", NULL},
    {"checked", (getter)memory_checked, NULL, "Whether code has to compare addresses with its size.", NULL},
    {NULL},
};

static PyMappingMethods memory_mapping = {
    .mp_length = (lenfunc)memory_length,
    .mp_subscript = (binaryfunc)memory_get,
    .mp_ass_subscript = (objobjargproc)memory_set,
};

static PyBufferProcs memory_buffer = {.bf_getbuffer = (getbufferproc)memory_getbuffer};

PyTypeObject py_memory_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.Memory",
    .tp_basicsize = sizeof(MemoryObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "A linear memory.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)memory_init,
    .tp_dealloc = (destructor)memory_dealloc,
    .tp_as_mapping = &memory_mapping,
    .tp_as_buffer = &memory_buffer,
    .tp_methods = memory_methods,
    .tp_getset = memory_getset,
};
