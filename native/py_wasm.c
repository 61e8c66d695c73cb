/* The type WasmFunction: a WebAssembly function that is called like a Python function, on a fiber borrowed for the call.
 *
 * The words of a call lie at the top of the fiber's stack, above the outermost frame. The fiber runs the entry thunk of
 * the signature, a C function of their address and the record's.
 */
#include "py_wasm.h"

#include "context.h"

#define LEAST_STACK_BYTES 4096 /* beside the words */

static PyObject *wasm_not_made(PyObject *self, PyObject *const *args, size_t flags, PyObject *keywords) {
    (void)self, (void)args, (void)flags, (void)keywords;
    PyErr_SetString(py_fiber_error, "this function was never initialised");
    return NULL;
}

/* Gives `f` the call to run, without arguments; their place. */
static uint64_t *ready(const WasmFunctionObject *self, struct tl_fiber *f) {
    f->path = self->path;
    tl_fiber_reset(f, self->thunk);
    uint64_t *words = tl_arch_reserve_words(f, (size_t)self->word_count);
    tl_arch_set_int(f, 0, (uint64_t)(uintptr_t)words);
    tl_arch_set_int(f, 1, self->record);
    return words;
}

static int set_arguments(const WasmFunctionObject *self, PyObject *const *args, Py_ssize_t count, uint64_t *words) {
    const char *codes = PyBytes_AS_STRING(self->params);
    if (count != PyBytes_GET_SIZE(self->params)) {
        PyErr_Format(py_call_error, "%U: found %zd arguments, expected %zd", self->name, count, PyBytes_GET_SIZE(self->params));
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        int bad = py_word(codes[i], args[i], self->convert, &words[i]);
        if (bad) return bad < 0 ? -1 : py_word_error(self->name, "argument", i, codes[i], args[i]);
    }
    return 0;
}

PyObject *py_wasm_result(const WasmFunctionObject *self, const uint64_t *words) {
    if (!self->convert) return wasm_not_made(NULL, NULL, 0, NULL); /* asked by a finaliser */
    return py_words_value(self->results, words, self->convert);
}

/* The Fiber object of a call; takes `f`. */
static FiberObject *fiber_of(WasmFunctionObject *self, struct tl_fiber *f, uint64_t *words) {
    FiberObject *fiber = py_fiber_adopt(f, self->owner, self->name, self->gil);
    if (!fiber) return NULL;
    fiber->call = (WasmFunctionObject *)Py_NewRef((PyObject *)self);
    fiber->words = words;
    fiber->result = 'v';
    return fiber;
}

/* Runs the call that `f` is ready for; 1 when it finished, the fiber being the caller's still. Else the fiber is gone
 * and *result is what the handler made of it, or NULL with an exception. */
static int run(WasmFunctionObject *self, struct tl_fiber *f, uint64_t *words, PyObject **result) {
    enum event_kind kind;
    int failed = py_run_to_stop(f, self->name, self->gil, &kind);
    if (!failed && kind == EVENT_FINISHED) return 1;
    *result = NULL;
    if (failed == -2 || (failed && self->handler == Py_None)) {
        tl_fiber_return(f);
        return 0;
    }
    PyObject *exception = failed ? py_take_exception() : NULL;
    FiberObject *fiber = fiber_of(self, f, words);
    if (!fiber) {
        Py_XDECREF(exception);
        return 0;
    }
    fiber->kind = failed ? EVENT_EXCEPTION : (uint8_t)kind;
    fiber->exception = exception;
    *result = py_call_stopped(fiber, self->handler);
    return 0;
}

static PyObject *wasm_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    WasmFunctionObject *self = (WasmFunctionObject *)callable;
    int error;
    if (keywords && PyTuple_GET_SIZE(keywords))
        return PyErr_Format(py_call_error, "%U: WebAssembly functions take no keyword arguments", self->name);
    struct tl_fiber *f = tl_fiber_borrow(self->stack_bytes, self->max_stack_bytes, &error);
    if (!f) return py_core_error(self->name, error);
    uint64_t *words = ready(self, f);
    if (set_arguments(self, args, PyVectorcall_NARGS(flags), words)) {
        tl_fiber_return(f);
        return NULL;
    }
    PyObject *result;
    Py_INCREF(self);
    if (run(self, f, words, &result)) {
        result = py_wasm_result(self, words);
        tl_fiber_return(f);
    }
    Py_DECREF(self);
    return result;
}

static PyObject *wasm_fiber(WasmFunctionObject *self, PyObject *const *args, Py_ssize_t count) {
    if (self->vectorcall != wasm_call) return wasm_not_made(NULL, NULL, 0, NULL);
    int error;
    struct tl_fiber *f = tl_fiber_new(self->stack_bytes, self->max_stack_bytes, &error);
    if (!f) return py_core_error(self->name, error);
    FiberObject *fiber = fiber_of(self, f, ready(self, f));
    if (fiber && set_arguments(self, args, count, fiber->words)) Py_CLEAR(fiber);
    return (PyObject *)fiber;
}

/* ---- the type ---- */

static PyObject *wasm_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    WasmFunctionObject *self = (WasmFunctionObject *)type->tp_alloc(type, 0);
    if (self) self->vectorcall = wasm_not_made;
    return (PyObject *)self;
}

static int wasm_init(WasmFunctionObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"thunk",   "record", "params", "results",     "name",            "owner", "handler", "convert",
                            "path",    "gil",    "stack_bytes", "max_stack_bytes", NULL};
    unsigned long long thunk, record;
    PyObject *params, *results, *name, *owner, *handler, *convert;
    int path, gil;
    Py_ssize_t stack_bytes, max_stack_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KKSSUOOOiinn", names, &thunk, &record, &params, &results, &name, &owner,
                                     &handler, &convert, &path, &gil, &stack_bytes, &max_stack_bytes))
        return -1;
    if (self->owner) {
        PyErr_SetString(py_fiber_error, "a function is initialised once"); /* another thread may be in its code */
        return -1;
    }
    if (py_check_word_codes("params", params) || py_check_word_codes("results", results)) return -1;
    if (path == TL_PATH_DIRECT && !tl_arch_direct_allowed()) {
        PyErr_Format(py_native_error, "%U: path `direct` is not available on this machine; use `inject`", name);
        return -1;
    }
    Py_ssize_t word_count = Py_MAX(PyBytes_GET_SIZE(params), PyBytes_GET_SIZE(results));
    Py_ssize_t least_bytes = word_count * (Py_ssize_t)sizeof(uint64_t) + LEAST_STACK_BYTES;
    if (stack_bytes < least_bytes || max_stack_bytes < stack_bytes) {
        PyErr_Format(PyExc_ValueError, "%U: found stack sizes of %zd and at most %zd bytes, expected %zd or more", name,
                     stack_bytes, max_stack_bytes, least_bytes);
        return -1;
    }
    self->vectorcall = wasm_call;
    self->thunk = thunk;
    self->record = record;
    self->word_count = word_count;
    self->stack_bytes = (size_t)stack_bytes;
    self->max_stack_bytes = (size_t)max_stack_bytes;
    self->path = (uint8_t)path;
    self->gil = (uint8_t)gil;
    Py_XSETREF(self->params, Py_NewRef(params));
    Py_XSETREF(self->results, Py_NewRef(results));
    Py_XSETREF(self->name, Py_NewRef(name));
    Py_XSETREF(self->handler, Py_NewRef(handler));
    Py_XSETREF(self->convert, Py_NewRef(convert));
    Py_XSETREF(self->owner, Py_NewRef(owner));
    return 0;
}

/* Before 3.12 a class made in Python does not inherit the flag, because its __call__ may be set later; a subclass that
 * has none of its own gets it here, or each call would pay for a tuple. */
static PyObject *wasm_init_subclass(PyTypeObject *type, PyObject *unused) {
    (void)unused;
    if (type->tp_call == PyVectorcall_Call && type->tp_vectorcall_offset == offsetof(WasmFunctionObject, vectorcall))
        type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    Py_RETURN_NONE;
}

static int wasm_traverse(WasmFunctionObject *self, visitproc visit, void *arg) {
    Py_VISIT(self->owner);
    Py_VISIT(self->handler);
    Py_VISIT(self->convert);
    return 0;
}

/* Nobody can call it any more but a finaliser, which must not run code that may be gone. */
static int wasm_clear(WasmFunctionObject *self) {
    self->vectorcall = wasm_not_made;
    Py_CLEAR(self->owner);
    Py_CLEAR(self->handler);
    Py_CLEAR(self->convert);
    return 0;
}

static void wasm_dealloc(WasmFunctionObject *self) {
    PyObject_GC_UnTrack(self);
    wasm_clear(self);
    Py_CLEAR(self->name);
    Py_CLEAR(self->params);
    Py_CLEAR(self->results);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef wasm_methods[] = {
    {"fiber", (PyCFunction)(void (*)(void))wasm_fiber, METH_FASTCALL, "fiber(*args): a Fiber that is ready for this call."},
    {"__init_subclass__", (PyCFunction)wasm_init_subclass, METH_NOARGS | METH_CLASS, "Calls of instances stay fast."},
    {NULL},
};

static PyMemberDef wasm_members[] = {
    {"name", T_OBJECT_EX, offsetof(WasmFunctionObject, name), READONLY, "What messages call it."},
    {"record", T_ULONGLONG, offsetof(WasmFunctionObject, record), READONLY, "Address of its function record."},
    {"owner", T_OBJECT_EX, offsetof(WasmFunctionObject, owner), READONLY, "What keeps its code, record and instance."},
    {"params", T_OBJECT_EX, offsetof(WasmFunctionObject, params), READONLY, "Type codes of the parameters."},
    {"results", T_OBJECT_EX, offsetof(WasmFunctionObject, results), READONLY, "Type codes of the results."},
    {NULL},
};

PyTypeObject py_wasm_function_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.WasmFunction",
    .tp_basicsize = sizeof(WasmFunctionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "A WebAssembly function that is called like a Python function.",
    .tp_new = wasm_new,
    .tp_init = (initproc)wasm_init,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(WasmFunctionObject, vectorcall),
    .tp_traverse = (traverseproc)wasm_traverse,
    .tp_clear = (inquiry)wasm_clear,
    .tp_dealloc = (destructor)wasm_dealloc,
    .tp_methods = wasm_methods,
    .tp_members = wasm_members,
};
