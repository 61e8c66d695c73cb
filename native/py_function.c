/* The type Function: native code that is called like a Python function, on a fiber borrowed for the call. */
#include "py_core.h"

#include "context.h"

static PyObject *function_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    FunctionObject *self = (FunctionObject *)callable;
    if (keywords && PyTuple_GET_SIZE(keywords))
        return PyErr_Format(py_fiber_error, "%U: native functions take no keyword arguments", self->name);
    int error;
    struct tl_fiber *f = tl_fiber_borrow(py_settings.stack_bytes, py_settings.max_stack_bytes, &error);
    if (!f) return py_core_error(self->name, error);
    f->path = self->path;
    tl_fiber_reset(f, self->entry);
    if (py_set_arguments(f, self->name, self->parameters, args, PyVectorcall_NARGS(flags))) {
        tl_fiber_return(f);
        return NULL;
    }
    enum event_kind kind;
    Py_INCREF(self);
    int failed = py_run_to_stop(f, self->name, self->gil, &kind);
    PyObject *result = NULL;
    if (failed) {
        tl_fiber_return(f);
    } else if (kind == EVENT_FINISHED) {
        result = py_result(f, self->result);
        tl_fiber_return(f);
    } else {
        FiberObject *fiber = py_fiber_adopt(f, self->owner, self->name, self->gil);
        if (fiber) {
            fiber->result = self->result;
            fiber->kind = (uint8_t)kind;
            result = py_call_stopped(fiber, self->handler);
        }
    }
    Py_DECREF(self);
    return result;
}

static int function_init(FunctionObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"entry", "parameters", "result", "name", "owner", "path", "gil", "handler", NULL};
    unsigned long long entry;
    PyObject *parameters, *name, *owner, *handler;
    int result, path, gil;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KOCUOiiO", names, &entry, &parameters, &result, &name, &owner, &path,
                                     &gil, &handler))
        return -1;
    if (self->owner) {
        PyErr_SetString(py_fiber_error, "a function is initialised once"); /* another thread may be in its code */
        return -1;
    }
    if (py_check_codes(parameters, result)) return -1;
    if (path == TL_PATH_DIRECT && !tl_arch_direct_allowed()) {
        PyErr_Format(py_native_error, "%U: path `direct` is not available on this machine; use `inject`", name);
        return -1;
    }
    self->vectorcall = function_call;
    self->entry = entry;
    self->result = (char)result;
    self->path = (uint8_t)path;
    self->gil = (uint8_t)gil;
    Py_XSETREF(self->parameters, Py_NewRef(parameters));
    Py_XSETREF(self->name, Py_NewRef(name));
    Py_XSETREF(self->owner, Py_NewRef(owner));
    Py_XSETREF(self->handler, Py_NewRef(handler));
    return 0;
}

static PyObject *function_not_made(PyObject *self, PyObject *const *args, size_t flags, PyObject *keywords) {
    (void)self, (void)args, (void)flags, (void)keywords;
    PyErr_SetString(py_fiber_error, "this function was never initialised");
    return NULL;
}

static PyObject *function_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    FunctionObject *self = (FunctionObject *)type->tp_alloc(type, 0);
    if (self) self->vectorcall = function_not_made;
    return (PyObject *)self;
}

static int function_traverse(FunctionObject *self, visitproc visit, void *arg) {
    Py_VISIT(self->owner);
    Py_VISIT(self->handler);
    return 0;
}

static int function_clear(FunctionObject *self) {
    Py_XSETREF(self->handler, Py_NewRef(Py_None));
    return 0;
}

static void function_dealloc(FunctionObject *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->name);
    Py_CLEAR(self->parameters);
    Py_CLEAR(self->handler);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef function_members[] = {
    {"name", T_OBJECT_EX, offsetof(FunctionObject, name), READONLY, "What messages call it."},
    {"address", T_ULONGLONG, offsetof(FunctionObject, entry), READONLY, "Where its code begins."},
    {"owner", T_OBJECT_EX, offsetof(FunctionObject, owner), READONLY, "What keeps its code mapped."},
    {NULL},
};

PyTypeObject py_function_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.Function",
    .tp_basicsize = sizeof(FunctionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "Native code that is called like a Python function.",
    .tp_new = function_new,
    .tp_init = (initproc)function_init,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(FunctionObject, vectorcall),
    .tp_traverse = (traverseproc)function_traverse,
    .tp_clear = (inquiry)function_clear,
    .tp_dealloc = (destructor)function_dealloc,
    .tp_members = function_members,
};
