/* The type Function: native code that is called like a Python function, on a fiber borrowed for the call. */
#include "py_core.h"

#include "context.h"

/* A fiber for one call: the thread's spare one, or one from the pool. */
static struct tl_fiber *borrow_fiber(PyObject *name) {
    struct tl_fiber *f = tl_self.spare;
    int error;
    if (f) {
        tl_self.spare = NULL;
        return f;
    }
    f = tl_fiber_new(py_settings.stack_bytes, py_settings.max_stack_bytes, &error);
    if (!f) py_core_error(name, error);
    return f;
}

static void return_fiber(struct tl_fiber *f) {
    if (tl_self.spare || !tl_self.ready || f->stack_low != f->stack_high - f->initial_stack_bytes) {
        tl_fiber_free(f);
    } else {
        tl_self.spare = f;
    }
}

/* The call stopped: gives the fiber to a Fiber object, and that to the handler or to whoever makes the exception. */
static PyObject *call_stopped(FunctionObject *self, struct tl_fiber *f, enum event_kind kind) {
    FiberObject *fiber = (FiberObject *)py_settings.fiber_class->tp_alloc(py_settings.fiber_class, 0);
    if (!fiber) {
        tl_fiber_free(f);
        return NULL;
    }
    fiber->fiber = f;
    fiber->owner = Py_NewRef(self->owner);
    fiber->name = Py_NewRef(self->name);
    fiber->result = self->result;
    fiber->gil = self->gil;
    fiber->kind = (uint8_t)kind;
    PyObject *result = NULL;
    if (self->handler == Py_None) {
        PyObject *exception = PyObject_CallOneArg(py_settings.unwound_error, (PyObject *)fiber);
        if (exception) PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_XDECREF(exception);
    } else {
        PyObject *event = py_event_new(fiber);
        PyObject *answer = event ? PyObject_CallOneArg(self->handler, event) : NULL;
        Py_XDECREF(event);
        if (answer && answer != Py_None) {
            PyErr_Format(py_fiber_error, "%U: the handler returned %R; expected None, which resumes", self->name, answer);
        } else if (answer) {
            uint8_t state = py_fiber_state(fiber);
            if (state == TL_FINISHED) {
                result = py_result(f, self->result);
            } else if (state == TL_UNWOUND) {
                result = Py_NewRef(Py_None);
            } else {
                result = py_drive(fiber, self->handler);
            }
        }
        Py_XDECREF(answer);
    }
    /* Not one that the handler gave to another thread, which may be in a call that runs it. */
    if (py_fiber_state(fiber) == TL_SUSPENDED || py_fiber_state(fiber) == TL_READY) tl_fiber_unwind(f);
    Py_DECREF(fiber);
    return result;
}

static PyObject *function_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    FunctionObject *self = (FunctionObject *)callable;
    if (keywords && PyTuple_GET_SIZE(keywords))
        return PyErr_Format(py_fiber_error, "%U: native functions take no keyword arguments", self->name);
    struct tl_fiber *f = borrow_fiber(self->name);
    if (!f) return NULL;
    f->path = self->path;
    tl_fiber_reset(f, self->entry);
    if (py_set_arguments(f, self->name, self->parameters, args, PyVectorcall_NARGS(flags))) {
        return_fiber(f);
        return NULL;
    }
    enum event_kind kind;
    Py_INCREF(self);
    int failed = py_run_to_stop(f, self->name, self->gil, &kind);
    PyObject *result = NULL;
    if (failed) {
        return_fiber(f);
    } else if (kind == EVENT_FINISHED) {
        result = py_result(f, self->result);
        return_fiber(f);
    } else {
        result = call_stopped(self, f, kind);
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
