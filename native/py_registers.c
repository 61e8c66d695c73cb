/* The type Registers: the part of it that must be fast, registers that are one whole word of the record.
 *
 * Every other register is the business of the Python subclass, whose methods `read_register(name)` and
 * `write_register(name, value)` are called for it. A name that is no attribute of the object is a register.
 */
#include "py_core.h"

static PyObject *read_name, *write_name;

/* The place of a whole-word register: a borrowed int, or NULL without an exception. */
static uint64_t *word_at(RegistersObject *self, PyObject *name) {
    PyObject *offset = py_settings.word_offsets ? PyDict_GetItemWithError(py_settings.word_offsets, name) : NULL;
    return offset ? &self->fiber->fiber->record[PyLong_AsLong(offset) / 8] : NULL;
}

static int registers_made(RegistersObject *self) {
    if (self->fiber) return 1;
    PyErr_SetString(py_fiber_error, "these registers belong to no fiber");
    return 0;
}

static PyObject *registers_get(RegistersObject *self, PyObject *name) {
    if (!registers_made(self)) return NULL;
    uint64_t *word = word_at(self, name);
    if (word) return py_fiber_readable(self->fiber) ? PyLong_FromUnsignedLongLong(*word) : NULL;
    if (PyErr_Occurred()) return NULL;
    return PyObject_CallMethodOneArg((PyObject *)self, read_name, name);
}

static int registers_set(RegistersObject *self, PyObject *name, PyObject *value) {
    if (!registers_made(self)) return -1;
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "registers cannot be deleted");
        return -1;
    }
    uint64_t *word = word_at(self, name);
    if (PyErr_Occurred()) return -1;
    if (word && PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (!overflow) {
            if (!py_fiber_writable(self->fiber)) return -1;
            *word = (uint64_t)number;
            return 0;
        }
    }
    PyObject *done = PyObject_CallMethodObjArgs((PyObject *)self, write_name, name, value, NULL);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *registers_getattro(RegistersObject *self, PyObject *name) {
    if (self->fiber) {
        uint64_t *word = word_at(self, name);
        if (word) return py_fiber_readable(self->fiber) ? PyLong_FromUnsignedLongLong(*word) : NULL;
        if (PyErr_Occurred()) return NULL;
    }
    PyObject *found = PyObject_GenericGetAttr((PyObject *)self, name);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
    if (PyUnicode_GET_LENGTH(name) > 1 && PyUnicode_READ_CHAR(name, 0) == '_') return NULL;
    PyErr_Clear();
    return registers_get(self, name);
}

static int registers_setattro(RegistersObject *self, PyObject *name, PyObject *value) {
    return registers_set(self, name, value);
}

static int registers_init(RegistersObject *self, PyObject *args, PyObject *kwargs) {
    PyObject *fiber;
    if (kwargs && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Registers(fiber)");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "O!", &py_fiber_type, &fiber) || !py_fiber_made((FiberObject *)fiber)) return -1;
    Py_XSETREF(self->fiber, (FiberObject *)Py_NewRef(fiber));
    return 0;
}

static int registers_traverse(RegistersObject *self, visitproc visit, void *arg) {
    Py_VISIT(self->fiber);
    return 0;
}

static int registers_clear(RegistersObject *self) {
    Py_CLEAR(self->fiber);
    return 0;
}

static void registers_dealloc(RegistersObject *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->fiber);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *registers_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    if (!read_name) read_name = PyUnicode_InternFromString("read_register");
    if (!write_name) write_name = PyUnicode_InternFromString("write_register");
    return read_name && write_name ? type->tp_alloc(type, 0) : NULL;
}

static PyMappingMethods registers_mapping = {
    .mp_subscript = (binaryfunc)registers_get,
    .mp_ass_subscript = (objobjargproc)registers_set,
};

static PyMemberDef registers_members[] = {
    {"fiber", T_OBJECT_EX, offsetof(RegistersObject, fiber), READONLY, "The fiber whose registers these are."},
    {NULL},
};

PyTypeObject py_registers_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.Registers",
    .tp_basicsize = sizeof(RegistersObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The registers of a stopped fiber by name.",
    .tp_new = registers_new,
    .tp_init = (initproc)registers_init,
    .tp_getattro = (getattrofunc)registers_getattro,
    .tp_setattro = (setattrofunc)registers_setattro,
    .tp_as_mapping = &registers_mapping,
    .tp_traverse = (traverseproc)registers_traverse,
    .tp_clear = (inquiry)registers_clear,
    .tp_dealloc = (destructor)registers_dealloc,
    .tp_members = registers_members,
};
