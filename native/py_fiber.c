/* The types Event and Fiber. */
#include "py_core.h"

#include "context.h"
#include "py_wasm.h"
#include "threads.h"

#define RECORD_BYTES (offsetof(struct tl_fiber, pending))
#define EXTENDED_START 512u /* TL_XSAVE, TL_Q */
#define STATE_BYTES (512 + tl_state_bytes)

/* ---- events ---- */

PyObject *py_event_new(FiberObject *fiber) {
    EventObject *event = (EventObject *)py_settings.event_class->tp_alloc(py_settings.event_class, 0);
    if (!event) return NULL;
    event->fiber = (FiberObject *)Py_NewRef((PyObject *)fiber);
    event->stop = fiber->fiber->stops;
    event->kind = fiber->kind;
    return (PyObject *)event;
}

static int event_traverse(EventObject *self, visitproc visit, void *arg) {
    Py_VISIT(self->fiber);
    return 0;
}

static int event_clear(EventObject *self) {
    Py_CLEAR(self->fiber);
    return 0;
}

static void event_dealloc(EventObject *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->fiber);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *event_valid(EventObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->fiber && self->stop == self->fiber->fiber->stops && !self->fiber->run_gate);
}

static PyMemberDef event_members[] = {
    {"fiber", T_OBJECT_EX, offsetof(EventObject, fiber), READONLY, "The fiber that stopped."},
    {"kind", T_UBYTE, offsetof(EventObject, kind), READONLY, "The kind of event, a number."},
    {NULL},
};

static PyGetSetDef event_getset[] = {
    {"valid", (getter)event_valid, NULL, "Whether the fiber is still where this event found it.", NULL},
    {NULL},
};

PyTypeObject py_event_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.Event",
    .tp_basicsize = sizeof(EventObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "One stop of a fiber.",
    .tp_traverse = (traverseproc)event_traverse,
    .tp_clear = (inquiry)event_clear,
    .tp_dealloc = (destructor)event_dealloc,
    .tp_members = event_members,
    .tp_getset = event_getset,
};

/* ---- fibers ---- */

static int fiber_init(FiberObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"entry", "args", "parameters", "result", "name", "owner", "path", "gil", "stack_bytes",
                            "max_stack_bytes", NULL};
    unsigned long long entry;
    PyObject *arguments, *parameters, *name, *owner;
    int result, error, path, gil;
    Py_ssize_t stack_bytes, max_stack_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KO!OCUOiinn", names, &entry, &PyTuple_Type, &arguments, &parameters,
                                     &result, &name, &owner, &path, &gil, &stack_bytes, &max_stack_bytes))
        return -1;
    if (self->fiber) {
        PyErr_SetString(py_fiber_error, "a fiber is initialised once");
        return -1;
    }
    if (py_check_codes(parameters, result)) return -1;
    if (path == TL_PATH_DIRECT && !tl_arch_direct_allowed()) {
        PyErr_Format(py_native_error, "fiber %U: path `direct` is not available on this machine; use `inject`", name);
        return -1;
    }
    self->fiber = tl_fiber_new((size_t)stack_bytes, (size_t)max_stack_bytes, &error);
    if (!self->fiber) {
        py_core_error(name, error);
        return -1;
    }
    self->fiber->path = (uint8_t)path;
    self->gil = (uint8_t)gil;
    self->result = (char)result;
    Py_XSETREF(self->owner, Py_NewRef(owner));
    Py_XSETREF(self->name, Py_NewRef(name));
    tl_fiber_reset(self->fiber, entry);
    return py_set_arguments(self->fiber, name, parameters, &PyTuple_GET_ITEM(arguments, 0), PyTuple_GET_SIZE(arguments));
}

static int fiber_traverse(FiberObject *self, visitproc visit, void *arg) {
    Py_VISIT(self->owner);
    Py_VISIT(self->call);
    Py_VISIT(self->exception);
    return 0;
}

/* The owner is not cleared: it keeps the code mapped, and a fiber that is part of a cycle may still run. Nor is the
 * call. */
static int fiber_clear(FiberObject *self) {
    Py_CLEAR(self->exception);
    return 0;
}

static void fiber_dealloc(FiberObject *self) {
    PyObject_GC_UnTrack(self);
    /* A fiber lost in a fork has no thread behind it; its stack is private memory like any other. */
    if (self->fiber) tl_fiber_free(self->fiber);
    self->fiber = NULL;
    Py_CLEAR(self->owner);
    Py_CLEAR(self->name);
    Py_CLEAR(self->call);
    Py_CLEAR(self->exception);
    Py_TYPE(self)->tp_free(self);
}

int py_fiber_made(const FiberObject *self) {
    if (self->fiber) return 1;
    PyErr_SetString(py_fiber_error, "this fiber was never initialised: call Fiber(entry, args)");
    return 0;
}

/* The calls of this thread that run a fiber, the innermost first: in the child of a fork they go on, others do not. */
struct gate {
    const FiberObject *fiber;
    struct gate *outer;
};
static __thread struct gate *gates __attribute__((tls_model("initial-exec")));

uint8_t py_fiber_state(const FiberObject *self) {
    if (!self->run_gate) return py_state(self->fiber);
    if (self->gate_generation == tl_fork_generation) return TL_RUNNING;
    for (const struct gate *gate = gates; gate; gate = gate->outer)
        if (gate->fiber == self) return TL_RUNNING;
    return TL_LOST;
}

/* Runs to the next event: 0, or -1 with an exception. */
static int fiber_go(FiberObject *self) {
    if (!py_fiber_made(self)) return -1;
    uint8_t state = py_fiber_state(self);
    if (state != TL_READY && state != TL_SUSPENDED) {
        py_state_error(self, "only a ready or suspended fiber can be resumed");
        return -1;
    }
    enum event_kind kind = EVENT_INTERRUPT;
    struct gate gate = {self, gates};
    gates = &gate;
    self->run_gate = 1;
    self->gate_generation = tl_fork_generation;
    Py_INCREF(self);
    Py_CLEAR(self->exception);
    int failed = py_run_to_stop(self->fiber, self->name, self->gil, &kind);
    self->run_gate = 0;
    gates = gate.outer;
    if (failed == -1 && self->call) {
        self->exception = py_take_exception();
        kind = EVENT_EXCEPTION;
        failed = 0;
    }
    self->kind = (uint8_t)kind;
    Py_DECREF(self);
    return failed;
}

static PyObject *fiber_resume(FiberObject *self, PyObject *unused) {
    (void)unused;
    if (fiber_go(self)) return NULL;
    if (self->kind == EVENT_FINISHED) Py_RETURN_NONE;
    return py_event_new(self);
}

static PyObject *fiber_next(FiberObject *self) {
    if (!py_fiber_made(self)) return NULL;
    uint8_t state = py_fiber_state(self);
    if (state == TL_FINISHED || state == TL_UNWOUND) return NULL;
    if (fiber_go(self)) return NULL;
    return self->kind == EVENT_FINISHED ? NULL : py_event_new(self);
}

/* What the code of a finished fiber returned. */
static PyObject *value_of(FiberObject *self) {
    return self->call ? py_wasm_result(self->call, self->words) : py_result(self->fiber, self->result);
}

static PyObject *fiber_result(FiberObject *self, void *unused) {
    (void)unused;
    if (!py_fiber_made(self)) return NULL;
    if (py_fiber_state(self) != TL_FINISHED) return py_state_error(self, "it has a result once it has finished");
    return value_of(self);
}

static PyObject *fiber_event(FiberObject *self, PyObject *unused) {
    (void)unused;
    return py_fiber_made(self) ? py_event_new(self) : NULL;
}

/* The event of the last stop to `handler`: 1 to go on, 0 when it is over (the handler ran it to its end or unwound it),
 * -1 with an exception. */
static int deliver(FiberObject *self, PyObject *handler) {
    PyObject *event = py_event_new(self);
    PyObject *answer = event ? PyObject_CallOneArg(handler, event) : NULL;
    Py_XDECREF(event);
    if (!answer) return -1;
    if (answer != Py_None) {
        PyErr_Format(py_fiber_error, "fiber %U: the handler returned %R; expected None, which resumes", self->name, answer);
        Py_DECREF(answer);
        return -1;
    }
    Py_DECREF(answer);
    uint8_t state = py_fiber_state(self);
    return state != TL_FINISHED && state != TL_UNWOUND;
}

/* Events to `handler` until the code returns or the handler unwinds it; its result, or None. `stopped`: it stands at an
 * event that the handler has not seen. */
static PyObject *drive(FiberObject *self, PyObject *handler, int stopped) {
    for (;; stopped = 0) {
        if (!stopped) {
            if (fiber_go(self)) return NULL;
            if (self->kind == EVENT_FINISHED) return value_of(self);
        }
        int on = deliver(self, handler);
        if (on < 0) return NULL;
        if (on) continue;
        if (py_fiber_state(self) == TL_FINISHED) return value_of(self);
        Py_RETURN_NONE;
    }
}

FiberObject *py_fiber_adopt(struct tl_fiber *f, PyObject *owner, PyObject *name, uint8_t gil) {
    FiberObject *self = (FiberObject *)py_settings.fiber_class->tp_alloc(py_settings.fiber_class, 0);
    if (!self) {
        tl_fiber_free(f);
        return NULL;
    }
    self->fiber = f;
    self->owner = Py_NewRef(owner);
    self->name = Py_NewRef(name);
    self->gil = gil;
    return self;
}

PyObject *py_call_stopped(FiberObject *self, PyObject *handler) {
    PyObject *result = NULL;
    if (handler != Py_None) {
        result = drive(self, handler, 1);
    } else {
        PyObject *exception = PyObject_CallOneArg(py_settings.unwound_error, (PyObject *)self);
        if (exception) PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_XDECREF(exception);
    }
    /* Not one that the handler gave to another thread, which may be in a call that runs it. */
    if (py_fiber_state(self) == TL_SUSPENDED || py_fiber_state(self) == TL_READY) tl_fiber_unwind(self->fiber);
    Py_DECREF(self);
    return result;
}

static PyObject *fiber_run(FiberObject *self, PyObject *handler) {
    if (!py_fiber_made(self)) return NULL;
    return drive(self, handler, 0);
}

static PyObject *fiber_resume_through(FiberObject *self, PyObject *address) {
    if (!py_fiber_made(self)) return NULL;
    unsigned long long pc = PyLong_AsUnsignedLongLong(address);
    if (pc == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    uint8_t state = py_fiber_state(self);
    if (state != TL_READY && state != TL_SUSPENDED)
        return py_state_error(self, "only a ready or suspended fiber can be resumed");
    tl_arch_set_pc(self->fiber, pc);
    return fiber_resume(self, NULL);
}

static PyObject *fiber_unwind(FiberObject *self, PyObject *unused) {
    (void)unused;
    if (!py_fiber_made(self)) return NULL;
    uint8_t state = py_fiber_state(self);
    if (state != TL_READY && state != TL_SUSPENDED)
        return py_state_error(self, "only a ready or suspended fiber can be unwound");
    tl_fiber_unwind(self->fiber);
    Py_RETURN_NONE;
}

static PyObject *fiber_interrupt(FiberObject *self, PyObject *unused) {
    (void)unused;
    if (!py_fiber_made(self)) return NULL;
    uint8_t state = py_fiber_state(self);
    if (state == TL_FINISHED || state == TL_UNWOUND || state == TL_LOST)
        return py_state_error(self, "nothing is left to interrupt");
    tl_fiber_interrupt(self->fiber);
    Py_RETURN_NONE;
}

static PyObject *fiber_grow_stack(FiberObject *self, PyObject *count) {
    if (!py_fiber_made(self)) return NULL;
    Py_ssize_t bytes = PyLong_AsSsize_t(count);
    if (bytes == -1 && PyErr_Occurred()) return NULL;
    if (bytes < 0) return PyErr_Format(py_fiber_error, "fiber %U: found %zd bytes, expected 0 or more", self->name, bytes);
    if (self->run_gate) return py_state_error(self, "its stack grows while it is stopped");
    int error = tl_fiber_grow(self->fiber, (size_t)bytes);
    if (error) return py_core_error(self->name, error);
    return PyLong_FromSize_t((size_t)(self->fiber->stack_high - self->fiber->stack_low));
}

/* ---- the record ---- */

/* The state that can be read: a suspended fiber's, a ready one's, and what a trap on path `unwind` left behind. */
int py_fiber_readable(FiberObject *self) {
    if (!py_fiber_made(self)) return 0;
    uint8_t state = py_fiber_state(self);
    if (state == TL_READY || state == TL_SUSPENDED || state == TL_UNWOUND) return 1;
    py_state_error(self, "registers can be read while it is stopped");
    return 0;
}

/* The whole record of a ready fiber counts once something was written to it. */
int py_fiber_writable(FiberObject *self) {
    if (!py_fiber_made(self)) return 0;
    uint8_t state = py_fiber_state(self);
    if (state == TL_READY || state == TL_SUSPENDED) {
        self->fiber->started = TL_STARTED;
        return 1;
    }
    py_state_error(self, "registers can be written while it is ready or suspended");
    return 0;
}

static int in_state(Py_ssize_t offset, Py_ssize_t count) {
    size_t start = (size_t)offset, stop = start + (size_t)count;
#if defined(__aarch64__)
    int control = start >= TL_FPCR && stop <= TL_FPSR + 4;
#else
    int control = 0;
#endif
    /* Between the record and the extended state lies what only the core writes. */
    if (offset >= 0 && count >= 0 && stop >= start &&
        (stop <= RECORD_BYTES || control || (start >= EXTENDED_START && stop <= STATE_BYTES)))
        return 1;
    PyErr_Format(py_fiber_error, "found [%zd, %zd), expected a range of the saved state", offset, offset + count);
    return 0;
}

static PyObject *fiber_read_word(FiberObject *self, PyObject *offset_object) {
    Py_ssize_t offset = PyLong_AsSsize_t(offset_object);
    if ((offset == -1 && PyErr_Occurred()) || !py_fiber_readable(self) || !in_state(offset, 8)) return NULL;
    uint64_t word;
    memcpy(&word, (uint8_t *)self->fiber + offset, 8);
    return PyLong_FromUnsignedLongLong(word);
}

static PyObject *fiber_write_word(FiberObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 2) return PyErr_Format(PyExc_TypeError, "write_word(offset, value)");
    Py_ssize_t offset = PyLong_AsSsize_t(args[0]);
    uint64_t word = PyLong_AsUnsignedLongLongMask(args[1]);
    if (PyErr_Occurred() || !py_fiber_writable(self) || !in_state(offset, 8)) return NULL;
    memcpy((uint8_t *)self->fiber + offset, &word, 8);
    tl_arch_record_new(self->fiber); /* what no code ever changes, no host changes */
    Py_RETURN_NONE;
}

static PyObject *fiber_read_state(FiberObject *self, PyObject *args) {
    Py_ssize_t offset, count;
    if (!PyArg_ParseTuple(args, "nn", &offset, &count) || !py_fiber_readable(self) || !in_state(offset, count)) return NULL;
    return PyBytes_FromStringAndSize((char *)self->fiber + offset, count);
}

static PyObject *fiber_write_state(FiberObject *self, PyObject *args) {
    Py_ssize_t offset;
    Py_buffer bytes;
    if (!PyArg_ParseTuple(args, "ny*", &offset, &bytes)) return NULL;
    int ok = py_fiber_writable(self) && in_state(offset, bytes.len);
    if (ok) {
        memcpy((uint8_t *)self->fiber + offset, bytes.buf, (size_t)bytes.len);
        tl_arch_record_new(self->fiber);
    }
    PyBuffer_Release(&bytes);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

static PyObject *fiber_get_pc(FiberObject *self, void *unused) {
    (void)unused;
    return py_fiber_readable(self) ? PyLong_FromUnsignedLongLong(tl_arch_pc(self->fiber)) : NULL;
}

static int fiber_set_pc(FiberObject *self, PyObject *value, void *unused) {
    (void)unused;
    if (!value) {
        PyErr_SetString(PyExc_AttributeError, "pc cannot be deleted");
        return -1;
    }
    unsigned long long pc = PyLong_AsUnsignedLongLong(value);
    if ((pc == (unsigned long long)-1 && PyErr_Occurred()) || !py_fiber_writable(self)) return -1;
    tl_arch_set_pc(self->fiber, pc);
    return 0;
}

static PyObject *fiber_get_stop_pc(FiberObject *self, void *unused) {
    (void)unused;
    return py_fiber_readable(self) ? PyLong_FromUnsignedLongLong(self->fiber->stop_pc) : NULL;
}

static PyObject *fiber_get_interrupt_pending(FiberObject *self, void *unused) {
    (void)unused;
    return py_fiber_made(self) ? PyBool_FromLong(atomic_load(&self->fiber->pending) & TL_PENDING_INTERRUPT) : NULL;
}

static PyObject *fiber_get_sp(FiberObject *self, void *unused) {
    (void)unused;
    return py_fiber_readable(self) ? PyLong_FromUnsignedLongLong(tl_arch_sp(self->fiber)) : NULL;
}

static PyObject *fiber_get_state(FiberObject *self, void *unused) {
    (void)unused;
    if (!py_fiber_made(self)) return NULL;
    return PyLong_FromLong(py_fiber_state(self));
}

static PyObject *fiber_get_stops(FiberObject *self, void *unused) {
    (void)unused;
    return py_fiber_made(self) ? PyLong_FromUnsignedLongLong(self->fiber->stops) : NULL;
}

static PyObject *fiber_get_fault(FiberObject *self, void *unused) {
    (void)unused;
    if (!py_fiber_readable(self)) return NULL;
    const struct tl_fault *fault = &self->fiber->fault;
    return Py_BuildValue("(iiIIKN)", fault->signal, fault->code, fault->trap, fault->error,
                         (unsigned long long)fault->address, PyBool_FromLong((long)fault->fetch));
}

static PyObject *fiber_get_stack(FiberObject *self, void *unused) {
    (void)unused;
    if (!py_fiber_made(self)) return NULL;
    const struct tl_fiber *f = self->fiber;
    return Py_BuildValue("(KKKK)", (unsigned long long)f->mapping, (unsigned long long)f->stack_reserved,
                         (unsigned long long)f->stack_low, (unsigned long long)f->stack_high);
}

/* What WebAssembly code asked for when it stopped with an exception, while nobody has answered. */
static struct tl_request request_of(const FiberObject *self) {
    struct tl_request none = {TL_REQUEST_NONE, NULL, NULL};
    if (py_fiber_state(self) != TL_SUSPENDED || self->fiber->started != TL_STARTED_HOST) return none;
    return tl_arch_request(self->fiber);
}

static PyObject *fiber_get_request(FiberObject *self, void *unused) {
    (void)unused;
    if (!py_fiber_made(self)) return NULL;
    struct tl_request request = request_of(self);
    if (request.kind == TL_REQUEST_NONE) Py_RETURN_NONE;
    return Py_BuildValue("(KKK)", (unsigned long long)request.kind, (unsigned long long)(uintptr_t)request.words,
                         (unsigned long long)(uintptr_t)request.block);
}

static PyObject *fiber_answer(FiberObject *self, PyObject *object) {
    Py_buffer words;
    if (!py_fiber_made(self) || PyObject_GetBuffer(object, &words, PyBUF_SIMPLE)) return NULL;
    struct tl_request request = request_of(self);
    uint64_t start = (uint64_t)(uintptr_t)request.words, high = (uint64_t)(uintptr_t)self->fiber->stack_high;
    int ok = 0;
    if (request.kind == TL_REQUEST_NONE) {
        PyErr_Format(py_fiber_error, "fiber %U: found no request of a host function or of the compiler to answer", self->name);
    } else if (start < tl_arch_sp(self->fiber) || start > high || (uint64_t)words.len > high - start) {
        PyErr_Format(py_fiber_error, "fiber %U: found %zd bytes, expected at most what the request has room for", self->name,
                     words.len);
    } else {
        memcpy(request.words, words.buf, (size_t)words.len);
        tl_arch_end_request(self->fiber);
        ok = 1;
    }
    PyBuffer_Release(&words);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef fiber_methods[] = {
    {"resume", (PyCFunction)fiber_resume, METH_NOARGS, "Run to the next event; None when the code returned."},
    {"run", (PyCFunction)fiber_run, METH_O, "run(handler): call it with each event; the code's result."},
    {"_event", (PyCFunction)fiber_event, METH_NOARGS, "The event of the last stop, made anew."},
    {"unwind", (PyCFunction)fiber_unwind, METH_NOARGS, "Leave the code for good."},
    {"interrupt", (PyCFunction)fiber_interrupt, METH_NOARGS, "Stop it wherever it is; from any thread."},
    {"grow_stack", (PyCFunction)fiber_grow_stack, METH_O, "grow_stack(bytes) -> usable bytes."},
    {"resume_through", (PyCFunction)fiber_resume_through, METH_O, "resume_through(address): resume at a slot."},
    {"read_word", (PyCFunction)fiber_read_word, METH_O, "read_word(offset): 8 bytes of the saved state."},
    {"write_word", (PyCFunction)(void (*)(void))fiber_write_word, METH_FASTCALL, "write_word(offset, value)."},
    {"read_state", (PyCFunction)fiber_read_state, METH_VARARGS, "read_state(offset, count) -> bytes."},
    {"set_words", (PyCFunction)fiber_answer, METH_O, "set_words(bytes): answer the request it stopped at."},
    {"write_state", (PyCFunction)fiber_write_state, METH_VARARGS, "write_state(offset, bytes)."},
    {NULL},
};

static PyGetSetDef fiber_getset[] = {
    {"result", (getter)fiber_result, NULL, "What the code returned.", NULL},
    {"pc", (getter)fiber_get_pc, (setter)fiber_set_pc, "The program counter.", NULL},
    {"stop_pc", (getter)fiber_get_stop_pc, NULL, "The program counter as the last stop left it.", NULL},
    {"interrupt_pending", (getter)fiber_get_interrupt_pending, NULL, "Whether the next run stops at once.", NULL},
    {"sp", (getter)fiber_get_sp, NULL, "The stack pointer.", NULL},
    {"state_code", (getter)fiber_get_state, NULL, "The state, a number.", NULL},
    {"stops", (getter)fiber_get_stops, NULL, "How often it has stopped.", NULL},
    {"fault", (getter)fiber_get_fault, NULL, "(signal, si_code, vector, error code, address, fetch).", NULL},
    {"request", (getter)fiber_get_request, NULL, "(kind, address of the words, of the block) or None.", NULL},
    {"stack_bounds", (getter)fiber_get_stack, NULL, "(mapping, reserved, low, high), addresses.", NULL},
    {NULL},
};

static PyMemberDef fiber_members[] = {
    {"name", T_OBJECT_EX, offsetof(FiberObject, name), READONLY, "What messages call it."},
    {"owner", T_OBJECT_EX, offsetof(FiberObject, owner), READONLY, "What keeps its code mapped."},
    {"kind", T_UBYTE, offsetof(FiberObject, kind), READONLY, "The kind of the last event, a number."},
    {"exception", T_OBJECT, offsetof(FiberObject, exception), 0, "What Python code raised on its behalf, or None."},
    {NULL},
};

PyTypeObject py_fiber_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.Fiber",
    .tp_basicsize = sizeof(FiberObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A stack of its own for native code, and its registers while it is stopped.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)fiber_init,
    .tp_traverse = (traverseproc)fiber_traverse,
    .tp_clear = (inquiry)fiber_clear,
    .tp_dealloc = (destructor)fiber_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)fiber_next,
    .tp_methods = fiber_methods,
    .tp_getset = fiber_getset,
    .tp_members = fiber_members,
};
