/* trapline._core: the fast way between Python and the core, as C-API types.
 *
 * cffi drops the GIL around every call, which costs more than a switch into native code and back; these types keep
 * it (see run_to_stop). They live in the same shared object as the cffi module, so both use one core.
 *
 * Lifetimes: a Fiber owns its tl_fiber and a reference to whatever keeps its code mapped (`owner`). An Event belongs
 * to one stop of one Fiber. A Function keeps its code's owner too and runs on a fiber borrowed for the call.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "code.h"
#include "context.h"
#include "fiber.h"
#include "signals.h"
#include "threads.h"

/* Kinds of event. Must match trapline.runtime.trap.StopReason. The last is none: go on. */
enum event_kind { EVENT_FINISHED, EVENT_TRAP, EVENT_INTERRUPT, EVENT_CHECK, EVENT_BREAKPOINT, EVENT_STEP, EVENT_NONE };

/* What happens to the GIL while native code runs. Must match trapline.tuning.GIL_*. */
enum gil_mode { GIL_LAZY, GIL_RELEASE };

#define RECORD_BYTES (offsetof(struct tl_fiber, pending))
#define STATE_BYTES (512 + tl_state_bytes)
#define MOST_ARGUMENTS 64

typedef struct {
    PyObject_HEAD
    struct tl_fiber *fiber;
    PyObject *owner;
    PyObject *name;
    char result;         /* type code */
    uint8_t gil;         /* enum gil_mode */
    uint8_t kind;        /* enum event_kind of the last stop */
    uint32_t run_gate;   /* 1 while a thread is in a call that runs it */
} FiberObject;

typedef struct {
    PyObject_HEAD
    FiberObject *fiber;
    uint64_t stop; /* the fiber's count of stops when it was made */
    uint8_t kind;
} EventObject;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    uint64_t entry;
    PyObject *owner;
    PyObject *name;
    PyObject *parameters; /* bytes of type codes, or None: each argument by its Python type */
    PyObject *handler;    /* called with each event, or None: a stop raises */
    char result;
    uint8_t path, gil;
} FunctionObject;

static PyTypeObject FiberType, EventType, FunctionType;
static PyTypeObject *fiber_class, *event_class; /* what this module makes: Python subclasses of its own types */
static PyObject *unwound_error;                 /* callable(fiber) -> exception for a call that stopped */
static PyObject *FiberError, *NativeError;
static size_t call_stack_bytes = 256 << 10, call_max_stack_bytes = 8 << 20;

/* ---- errors ---- */

static const char *state_words[] = {"ready to start", "running", "suspended", "finished", "unwound", "lost in a fork"};

static uint8_t state_of(const struct tl_fiber *f) {
    return f->state == TL_RUNNING && f->fork_generation != tl_fork_generation ? TL_LOST : f->state;
}

static void *state_error(const FiberObject *self, const char *wanted) {
    PyErr_Format(FiberError, "fiber %U at pc 0x%llx: it is %s; %s", self->name,
                 (unsigned long long)tl_arch_pc(self->fiber), state_words[state_of(self->fiber)], wanted);
    return NULL;
}

static void *core_error(PyObject *name, int error) {
    switch (error) {
    case TL_ERR_STATE:
        return PyErr_Format(FiberError, "fiber %U: found one that cannot run; expected a ready or suspended one", name);
    case TL_ERR_LOST:
        return PyErr_Format(FiberError,
                            "fiber %U: it was running in another thread when the process forked; that thread is not "
                            "in the child, so nothing is left to resume", name);
    case TL_ERR_STACK:
        return PyErr_Format(FiberError, "fiber %U: its stack has no more room to grow into", name);
    default:
        return PyErr_Format(NativeError, "fiber %U: the system refused: %s", name, strerror(-error));
    }
}

/* ---- running ---- */

/* Puts the pc and the stack pointer where the program means to be. */
static void apply(struct tl_fiber *f, const struct tl_slot_place *meaning) {
    int from_register = meaning->pc_register >= 0;
    tl_arch_set_pc(f, from_register ? tl_arch_register(f, (unsigned)meaning->pc_register) : meaning->pc);
    if (meaning->sp_adjust) tl_arch_add_sp(f, meaning->sp_adjust);
}

/* What the pc means after a stop, and what kind of event the stop is. Patches, slots and stepping copies are ours:
 * the pc that is left in the record is the one in the code the fiber belongs to. */
static enum event_kind settle(struct tl_fiber *f, int stop, uint64_t reported_pc) {
    uint64_t trap_pc;
    struct tl_slot_place meaning;
    f->reported_pc = 0;
    if (stop == TL_STOP_FINISHED) return EVENT_FINISHED;
    if (stop == TL_STOP_TRAP && tl_arch_breakpoint_pc(f, &trap_pc)) {
        enum tl_place place = tl_code_place(trap_pc, &meaning);
        if (place == TL_PLACE_BREAKPOINT || place == TL_PLACE_STEP) {
            apply(f, &meaning);
            if (place == TL_PLACE_STEP && !tl_code_breakpoint_slot(meaning.pc)) return EVENT_STEP;
            f->reported_pc = meaning.pc;
            return EVENT_BREAKPOINT;
        }
        /* A breakpoint was taken away after this thread hit it: run the instruction that is back in place, unless
         * that is a trap of the program's own. */
        if (place == TL_PLACE_GONE && !tl_arch_is_trap((const void *)(uintptr_t)trap_pc)) {
            tl_arch_set_pc(f, trap_pc);
            return EVENT_NONE;
        }
    }
    enum tl_place place = tl_code_place(tl_arch_pc(f), &meaning);
    if (place == TL_PLACE_STEP || place == TL_PLACE_SLOT) apply(f, &meaning);
    if (stop == TL_STOP_TRAP) return EVENT_TRAP;
    if (stop == TL_STOP_CHECK) return EVENT_CHECK;
    if (tl_arch_pc(f) == reported_pc) f->reported_pc = reported_pc; /* interrupted before that instruction ran */
    return EVENT_INTERRUPT;
}

/* Runs `f` to its next event. The GIL is held at the start and at the end.
 *
 *   lazy     the run starts with the GIL held; the ticker interrupts it after a switch interval, and it goes on
 *            without.
 *   release  it is dropped before the run.
 *
 * On the main thread the first tick also puts our hooks in front of Python's signal handlers: from then on a signal
 * interrupts native code at once, and one that came before is found here.
 *
 * Returns 0 with *kind set, or -1 with a Python exception (the fiber is then suspended and can be resumed, unless
 * the error says that it could not run). */
static int run_to_stop(struct tl_fiber *f, PyObject *name, uint8_t gil, enum event_kind *kind) {
    PyThreadState *dropped = gil == GIL_RELEASE ? PyEval_SaveThread() : NULL;
    int tick = 1, stop, failed = 0;
    uint64_t reported_pc = f->reported_pc;
    if (reported_pc && tl_arch_pc(f) == reported_pc) {
        uint64_t slot = tl_code_breakpoint_slot(reported_pc);
        if (slot) tl_arch_set_pc(f, slot);
    }
    for (;;) {
        stop = tl_fiber_run(f, tick);
        if (stop < 0 && stop != TL_ERR_PARKED) break;
        if (stop == TL_ERR_PARKED || (stop == TL_STOP_INTERRUPT && f->interrupts & TL_PENDING_PARK)) {
            if (!dropped) dropped = PyEval_SaveThread();
            tl_park_wait();
            if (stop == TL_ERR_PARKED) continue;
        }
        if (stop != TL_STOP_INTERRUPT) {
            *kind = settle(f, stop, reported_pc);
            if (*kind != EVENT_NONE) break;
            continue;
        }
        uint32_t bits = f->interrupts;
        if (bits & (TL_PENDING_GIL | TL_PENDING_SIGNAL)) {
            if (dropped) PyEval_RestoreThread(dropped);
            if (tl_main_thread() == &tl_self) tl_signals_hook_python();
            failed = PyErr_CheckSignals();
            dropped = PyEval_SaveThread();
            tick = 0;
            if (failed) {
                if (bits & TL_PENDING_INTERRUPT) atomic_fetch_or(&f->pending, TL_PENDING_INTERRUPT);
                break;
            }
        }
        if (bits & TL_PENDING_INTERRUPT) break;
    }
    if (dropped) PyEval_RestoreThread(dropped);
    if (stop < 0) {
        core_error(name, stop);
        return -1;
    }
    if (stop == TL_STOP_INTERRUPT) *kind = settle(f, stop, reported_pc);
    return failed ? -1 : 0;
}

/* ---- arguments and results ---- */

/* Type codes. Must match trapline.runtime.signature.CODES.
 *   i u  32 bits signed, unsigned     l L  64 bits     f d  float, double     v  nothing
 *   *    by the Python type: an int of -2**63 .. 2**64-1 is 64 bits, a float is a double */

static int bad_argument(PyObject *name, Py_ssize_t index, const char *expected, PyObject *found) {
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_TypeError))
        return -1;
    PyErr_Clear();
    PyErr_Format(FiberError, "%U: argument %zd: found %R, expected %s", name, index, found, expected);
    return -1;
}

static int integer_bits(PyObject *name, Py_ssize_t index, char code, PyObject *value, uint64_t *bits) {
    if (!PyLong_Check(value)) return bad_argument(name, index, "an integer", value);
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (number == -1 && PyErr_Occurred()) return -1;
    if (code == 'i') {
        if (overflow || number < INT32_MIN || number > INT32_MAX)
            return bad_argument(name, index, "an integer of -2**31 .. 2**31-1 (i32)", value);
    } else if (code == 'u') {
        if (overflow || number < 0 || number > UINT32_MAX)
            return bad_argument(name, index, "an integer of 0 .. 2**32-1 (u32)", value);
    } else if (code == 'l') {
        if (overflow) return bad_argument(name, index, "an integer of -2**63 .. 2**63-1 (i64)", value);
    } else if (overflow > 0 || (code == 'L' && number < 0)) {
        const char *expected = code == 'L' ? "an integer of 0 .. 2**64-1 (u64)" : "an integer of -2**63 .. 2**64-1";
        if (overflow <= 0) return bad_argument(name, index, expected, value);
        *bits = PyLong_AsUnsignedLongLong(value);
        if (*bits == (uint64_t)-1 && PyErr_Occurred()) return bad_argument(name, index, expected, value);
        return 0;
    } else if (overflow) {
        return bad_argument(name, index, "an integer of -2**63 .. 2**64-1", value);
    }
    *bits = code == 'u' ? (uint32_t)number : (uint64_t)number;
    return 0;
}

static int float_bits(PyObject *name, Py_ssize_t index, char code, PyObject *value, uint64_t *bits) {
    double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred()) return bad_argument(name, index, "a number", value);
    *bits = 0;
    if (code == 'f') {
        float single = (float)number;
        memcpy(bits, &single, 4);
    } else {
        memcpy(bits, &number, 8);
    }
    return 0;
}

static int set_arguments(struct tl_fiber *f, PyObject *name, PyObject *parameters, PyObject *const *args,
                         Py_ssize_t count) {
    const char *codes = NULL;
    uint64_t words[MOST_ARGUMENTS];
    unsigned integers = 0, floats = 0, stacked = 0;
    if (parameters != Py_None) {
        codes = PyBytes_AS_STRING(parameters);
        if (PyBytes_GET_SIZE(parameters) != count) {
            PyErr_Format(FiberError, "%U: found %zd arguments, expected %zd", name, count, PyBytes_GET_SIZE(parameters));
            return -1;
        }
    }
    if (count > MOST_ARGUMENTS) {
        PyErr_Format(FiberError, "%U: found %zd arguments, expected at most %d", name, count, MOST_ARGUMENTS);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        char code = codes ? codes[i] : '*';
        int is_float = code == 'f' || code == 'd' || (code == '*' && PyFloat_Check(args[i]));
        uint64_t bits;
        if ((is_float ? float_bits : integer_bits)(name, i, code, args[i], &bits)) return -1;
        if ((is_float ? tl_arch_set_float(f, floats++, bits) : tl_arch_set_int(f, integers++, bits)) < 0)
            words[stacked++] = bits;
    }
    if (stacked) tl_arch_stack_words(f, words, stacked);
    return 0;
}

static PyObject *result_of(const struct tl_fiber *f, char code) {
    uint64_t bits;
    float single;
    double number;
    switch (code) {
    case 'i':
        return PyLong_FromLong((int32_t)tl_arch_int_result(f));
    case 'u':
        return PyLong_FromUnsignedLong((uint32_t)tl_arch_int_result(f));
    case 'l':
        return PyLong_FromLongLong((long long)tl_arch_int_result(f));
    case 'L':
        return PyLong_FromUnsignedLongLong(tl_arch_int_result(f));
    case 'f':
        bits = tl_arch_float_result(f);
        memcpy(&single, &bits, 4);
        return PyFloat_FromDouble((double)single);
    case 'd':
        bits = tl_arch_float_result(f);
        memcpy(&number, &bits, 8);
        return PyFloat_FromDouble(number);
    default:
        Py_RETURN_NONE;
    }
}

static int check_codes(PyObject *parameters, int result) {
    if (parameters != Py_None) {
        if (!PyBytes_Check(parameters)) {
            PyErr_SetString(PyExc_TypeError, "parameters: bytes of type codes or None");
            return -1;
        }
        const char *codes = PyBytes_AS_STRING(parameters);
        for (Py_ssize_t i = 0; i < PyBytes_GET_SIZE(parameters); i++) {
            if (codes[i] && strchr("iulLfd*", codes[i])) continue;
            PyErr_Format(PyExc_ValueError, "parameters: unknown type code %d", codes[i]);
            return -1;
        }
    }
    if (!result || !strchr("iulLfdv", result)) {
        PyErr_Format(PyExc_ValueError, "result: unknown type code %d", result);
        return -1;
    }
    return 0;
}

/* ---- events ---- */

static PyObject *event_new(FiberObject *fiber) {
    EventObject *event = (EventObject *)event_class->tp_alloc(event_class, 0);
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

static PyTypeObject EventType = {
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
        PyErr_SetString(FiberError, "a fiber is initialised once");
        return -1;
    }
    if (check_codes(parameters, result)) return -1;
    if (path == TL_PATH_DIRECT && !tl_arch_direct_allowed()) {
        PyErr_Format(NativeError, "fiber %U: path `direct` is not available on this machine; use `inject`", name);
        return -1;
    }
    self->fiber = tl_fiber_new((size_t)stack_bytes, (size_t)max_stack_bytes, &error);
    if (!self->fiber) {
        core_error(name, error);
        return -1;
    }
    self->fiber->path = (uint8_t)path;
    self->gil = (uint8_t)gil;
    self->result = (char)result;
    Py_XSETREF(self->owner, Py_NewRef(owner));
    Py_XSETREF(self->name, Py_NewRef(name));
    tl_fiber_reset(self->fiber, entry);
    return set_arguments(self->fiber, name, parameters, &PyTuple_GET_ITEM(arguments, 0), PyTuple_GET_SIZE(arguments));
}

static int fiber_traverse(FiberObject *self, visitproc visit, void *arg) {
    Py_VISIT(self->owner);
    return 0;
}

/* The owner is not cleared: it keeps the code mapped, and a fiber that is part of a cycle may still run. */
static void fiber_dealloc(FiberObject *self) {
    PyObject_GC_UnTrack(self);
    /* A fiber lost in a fork has no thread behind it; its stack is private memory like any other. */
    if (self->fiber) tl_fiber_free(self->fiber);
    self->fiber = NULL;
    Py_CLEAR(self->owner);
    Py_CLEAR(self->name);
    Py_TYPE(self)->tp_free(self);
}

static int fiber_made(const FiberObject *self) {
    if (self->fiber) return 1;
    PyErr_SetString(FiberError, "this fiber was never initialised: call Fiber(entry, args)");
    return 0;
}

/* Runs to the next event: 0, or -1 with an exception. */
static int fiber_go(FiberObject *self) {
    if (!fiber_made(self)) return -1;
    uint8_t state = state_of(self->fiber);
    if (self->run_gate || (state != TL_READY && state != TL_SUSPENDED)) {
        state_error(self, "only a ready or suspended fiber can be resumed");
        return -1;
    }
    enum event_kind kind = EVENT_INTERRUPT;
    self->run_gate = 1;
    Py_INCREF(self);
    int failed = run_to_stop(self->fiber, self->name, self->gil, &kind);
    self->run_gate = 0;
    self->kind = (uint8_t)kind;
    Py_DECREF(self);
    return failed;
}

static PyObject *fiber_resume(FiberObject *self, PyObject *unused) {
    (void)unused;
    if (fiber_go(self)) return NULL;
    if (self->kind == EVENT_FINISHED) Py_RETURN_NONE;
    return event_new(self);
}

static PyObject *fiber_next(FiberObject *self) {
    if (!fiber_made(self)) return NULL;
    uint8_t state = state_of(self->fiber);
    if (!self->run_gate && (state == TL_FINISHED || state == TL_UNWOUND)) return NULL;
    if (fiber_go(self)) return NULL;
    return self->kind == EVENT_FINISHED ? NULL : event_new(self);
}

static PyObject *fiber_result(FiberObject *self, void *unused) {
    (void)unused;
    if (!fiber_made(self)) return NULL;
    if (state_of(self->fiber) != TL_FINISHED) return state_error(self, "it has a result once it has finished");
    return result_of(self->fiber, self->result);
}

static PyObject *fiber_event(FiberObject *self, PyObject *unused) {
    (void)unused;
    return fiber_made(self) ? event_new(self) : NULL;
}

/* Events to `handler` until the code returns or the handler unwinds it. */
static PyObject *drive(FiberObject *self, PyObject *handler) {
    for (;;) {
        if (fiber_go(self)) return NULL;
        if (self->kind == EVENT_FINISHED) return result_of(self->fiber, self->result);
        PyObject *event = event_new(self);
        if (!event) return NULL;
        PyObject *answer = PyObject_CallOneArg(handler, event);
        Py_DECREF(event);
        if (!answer) return NULL;
        if (answer != Py_None) {
            PyErr_Format(FiberError, "fiber %U: the handler returned %R; expected None, which resumes", self->name, answer);
            Py_DECREF(answer);
            return NULL;
        }
        Py_DECREF(answer);
        uint8_t state = state_of(self->fiber);
        if (state == TL_FINISHED) return result_of(self->fiber, self->result); /* the handler ran it to its end */
        if (state == TL_UNWOUND) Py_RETURN_NONE;
    }
}

static PyObject *fiber_run(FiberObject *self, PyObject *handler) {
    if (!fiber_made(self)) return NULL;
    return drive(self, handler);
}

static PyObject *fiber_resume_through(FiberObject *self, PyObject *address) {
    if (!fiber_made(self)) return NULL;
    unsigned long long pc = PyLong_AsUnsignedLongLong(address);
    if (pc == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    uint8_t state = state_of(self->fiber);
    if (self->run_gate || (state != TL_READY && state != TL_SUSPENDED))
        return state_error(self, "only a ready or suspended fiber can be resumed");
    self->fiber->reported_pc = 0;
    tl_arch_set_pc(self->fiber, pc);
    return fiber_resume(self, NULL);
}

static PyObject *fiber_unwind(FiberObject *self, PyObject *unused) {
    (void)unused;
    if (!fiber_made(self)) return NULL;
    uint8_t state = state_of(self->fiber);
    if (self->run_gate || (state != TL_READY && state != TL_SUSPENDED))
        return state_error(self, "only a ready or suspended fiber can be unwound");
    tl_fiber_unwind(self->fiber);
    Py_RETURN_NONE;
}

static PyObject *fiber_interrupt(FiberObject *self, PyObject *unused) {
    (void)unused;
    if (!fiber_made(self)) return NULL;
    uint8_t state = state_of(self->fiber);
    if (state == TL_FINISHED || state == TL_UNWOUND || state == TL_LOST)
        return state_error(self, "nothing is left to interrupt");
    tl_fiber_interrupt(self->fiber);
    Py_RETURN_NONE;
}

static PyObject *fiber_grow_stack(FiberObject *self, PyObject *count) {
    if (!fiber_made(self)) return NULL;
    Py_ssize_t bytes = PyLong_AsSsize_t(count);
    if (bytes == -1 && PyErr_Occurred()) return NULL;
    if (bytes < 0) return PyErr_Format(FiberError, "fiber %U: found %zd bytes, expected 0 or more", self->name, bytes);
    if (self->run_gate) return state_error(self, "its stack grows while it is stopped");
    int error = tl_fiber_grow(self->fiber, (size_t)bytes);
    if (error) return core_error(self->name, error);
    return PyLong_FromSize_t((size_t)(self->fiber->stack_high - self->fiber->stack_low));
}

/* ---- the record ---- */

/* The state that can be read: a suspended fiber's, a ready one's, and what a trap on path `unwind` left behind. */
static int readable(FiberObject *self) {
    if (!fiber_made(self)) return 0;
    uint8_t state = state_of(self->fiber);
    if (!self->run_gate && (state == TL_READY || state == TL_SUSPENDED || state == TL_UNWOUND)) return 1;
    state_error(self, "registers can be read while it is stopped");
    return 0;
}

static int writable(FiberObject *self) {
    if (!fiber_made(self)) return 0;
    uint8_t state = state_of(self->fiber);
    if (!self->run_gate && (state == TL_READY || state == TL_SUSPENDED)) return 1;
    state_error(self, "registers can be written while it is ready or suspended");
    return 0;
}

static int in_state(Py_ssize_t offset, Py_ssize_t count) {
    size_t start = (size_t)offset, stop = start + (size_t)count;
    if (offset >= 0 && count >= 0 && stop >= start &&
        (stop <= RECORD_BYTES || (start >= RECORD_BYTES && stop <= STATE_BYTES)))
        return 1;
    PyErr_Format(FiberError, "found [%zd, %zd), expected a range of the saved state", offset, offset + count);
    return 0;
}

static PyObject *fiber_read_word(FiberObject *self, PyObject *offset_object) {
    Py_ssize_t offset = PyLong_AsSsize_t(offset_object);
    if ((offset == -1 && PyErr_Occurred()) || !readable(self) || !in_state(offset, 8)) return NULL;
    uint64_t word;
    memcpy(&word, (uint8_t *)self->fiber + offset, 8);
    return PyLong_FromUnsignedLongLong(word);
}

static PyObject *fiber_write_word(FiberObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 2) return PyErr_Format(PyExc_TypeError, "write_word(offset, value)");
    Py_ssize_t offset = PyLong_AsSsize_t(args[0]);
    uint64_t word = PyLong_AsUnsignedLongLongMask(args[1]);
    if (PyErr_Occurred() || !writable(self) || !in_state(offset, 8)) return NULL;
    memcpy((uint8_t *)self->fiber + offset, &word, 8);
    Py_RETURN_NONE;
}

static PyObject *fiber_read_state(FiberObject *self, PyObject *args) {
    Py_ssize_t offset, count;
    if (!PyArg_ParseTuple(args, "nn", &offset, &count) || !readable(self) || !in_state(offset, count)) return NULL;
    return PyBytes_FromStringAndSize((char *)self->fiber + offset, count);
}

static PyObject *fiber_write_state(FiberObject *self, PyObject *args) {
    Py_ssize_t offset;
    Py_buffer bytes;
    if (!PyArg_ParseTuple(args, "ny*", &offset, &bytes)) return NULL;
    int ok = writable(self) && in_state(offset, bytes.len);
    if (ok) memcpy((uint8_t *)self->fiber + offset, bytes.buf, (size_t)bytes.len);
    PyBuffer_Release(&bytes);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

static PyObject *fiber_get_pc(FiberObject *self, void *unused) {
    (void)unused;
    return readable(self) ? PyLong_FromUnsignedLongLong(tl_arch_pc(self->fiber)) : NULL;
}

static int fiber_set_pc(FiberObject *self, PyObject *value, void *unused) {
    (void)unused;
    if (!value) {
        PyErr_SetString(PyExc_AttributeError, "pc cannot be deleted");
        return -1;
    }
    unsigned long long pc = PyLong_AsUnsignedLongLong(value);
    if ((pc == (unsigned long long)-1 && PyErr_Occurred()) || !writable(self)) return -1;
    tl_arch_set_pc(self->fiber, pc);
    return 0;
}

static PyObject *fiber_get_sp(FiberObject *self, void *unused) {
    (void)unused;
    return readable(self) ? PyLong_FromUnsignedLongLong(tl_arch_sp(self->fiber)) : NULL;
}

static PyObject *fiber_get_state(FiberObject *self, void *unused) {
    (void)unused;
    if (!fiber_made(self)) return NULL;
    return PyLong_FromLong(self->run_gate && self->fiber->state != TL_FINISHED ? (long)TL_RUNNING : state_of(self->fiber));
}

static PyObject *fiber_get_stops(FiberObject *self, void *unused) {
    (void)unused;
    return fiber_made(self) ? PyLong_FromUnsignedLongLong(self->fiber->stops) : NULL;
}

static PyObject *fiber_get_fault(FiberObject *self, void *unused) {
    (void)unused;
    if (!readable(self)) return NULL;
    const struct tl_fault *fault = &self->fiber->fault;
    return Py_BuildValue("(iiIIKN)", fault->signal, fault->code, fault->trap, fault->error,
                         (unsigned long long)fault->address, PyBool_FromLong((long)fault->fetch));
}

static PyObject *fiber_get_stack(FiberObject *self, void *unused) {
    (void)unused;
    if (!fiber_made(self)) return NULL;
    const struct tl_fiber *f = self->fiber;
    return Py_BuildValue("(KKKK)", (unsigned long long)f->mapping, (unsigned long long)f->stack_reserved,
                         (unsigned long long)f->stack_low, (unsigned long long)f->stack_high);
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
    {"write_state", (PyCFunction)fiber_write_state, METH_VARARGS, "write_state(offset, bytes)."},
    {NULL},
};

static PyGetSetDef fiber_getset[] = {
    {"result", (getter)fiber_result, NULL, "What the code returned.", NULL},
    {"pc", (getter)fiber_get_pc, (setter)fiber_set_pc, "The program counter.", NULL},
    {"sp", (getter)fiber_get_sp, NULL, "The stack pointer.", NULL},
    {"state_code", (getter)fiber_get_state, NULL, "The state, a number.", NULL},
    {"stops", (getter)fiber_get_stops, NULL, "How often it has stopped.", NULL},
    {"fault", (getter)fiber_get_fault, NULL, "(signal, si_code, vector, error code, address, fetch).", NULL},
    {"stack_bounds", (getter)fiber_get_stack, NULL, "(mapping, reserved, low, high), addresses.", NULL},
    {NULL},
};

static PyMemberDef fiber_members[] = {
    {"name", T_OBJECT_EX, offsetof(FiberObject, name), READONLY, "What messages call it."},
    {"owner", T_OBJECT_EX, offsetof(FiberObject, owner), READONLY, "What keeps its code mapped."},
    {"kind", T_UBYTE, offsetof(FiberObject, kind), READONLY, "The kind of the last event, a number."},
    {NULL},
};

static PyTypeObject FiberType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.Fiber",
    .tp_basicsize = sizeof(FiberObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A stack of its own for native code, and its registers while it is stopped.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)fiber_init,
    .tp_traverse = (traverseproc)fiber_traverse,
    .tp_dealloc = (destructor)fiber_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)fiber_next,
    .tp_methods = fiber_methods,
    .tp_getset = fiber_getset,
    .tp_members = fiber_members,
};

/* ---- functions ---- */

/* A fiber for one call: the thread's spare one, or one from the pool. */
static struct tl_fiber *borrow_fiber(PyObject *name) {
    struct tl_fiber *f = tl_self.spare;
    int error;
    if (f) {
        tl_self.spare = NULL;
        atomic_store_explicit(&f->pending, 0, memory_order_relaxed);
        return f;
    }
    f = tl_fiber_new(call_stack_bytes, call_max_stack_bytes, &error);
    if (!f) core_error(name, error);
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
    FiberObject *fiber = (FiberObject *)fiber_class->tp_alloc(fiber_class, 0);
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
        PyObject *exception = PyObject_CallOneArg(unwound_error, (PyObject *)fiber);
        if (exception) PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_XDECREF(exception);
    } else {
        PyObject *event = event_new(fiber);
        PyObject *answer = event ? PyObject_CallOneArg(self->handler, event) : NULL;
        Py_XDECREF(event);
        if (answer && answer != Py_None) {
            PyErr_Format(FiberError, "%U: the handler returned %R; expected None, which resumes", self->name, answer);
        } else if (answer) {
            uint8_t state = state_of(f);
            if (state == TL_FINISHED) {
                result = result_of(f, self->result);
            } else if (state == TL_UNWOUND) {
                result = Py_NewRef(Py_None);
            } else {
                result = drive(fiber, self->handler);
            }
        }
        Py_XDECREF(answer);
    }
    if (state_of(f) == TL_SUSPENDED || state_of(f) == TL_READY) tl_fiber_unwind(f);
    Py_DECREF(fiber);
    return result;
}

static PyObject *function_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *keywords) {
    FunctionObject *self = (FunctionObject *)callable;
    if (keywords && PyTuple_GET_SIZE(keywords))
        return PyErr_Format(FiberError, "%U: native functions take no keyword arguments", self->name);
    struct tl_fiber *f = borrow_fiber(self->name);
    if (!f) return NULL;
    f->path = self->path;
    tl_fiber_reset(f, self->entry);
    if (set_arguments(f, self->name, self->parameters, args, PyVectorcall_NARGS(flags))) {
        return_fiber(f);
        return NULL;
    }
    enum event_kind kind;
    Py_INCREF(self);
    int failed = run_to_stop(f, self->name, self->gil, &kind);
    PyObject *result = NULL;
    if (failed) {
        return_fiber(f);
    } else if (kind == EVENT_FINISHED) {
        result = result_of(f, self->result);
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
    if (check_codes(parameters, result)) return -1;
    if (path == TL_PATH_DIRECT && !tl_arch_direct_allowed()) {
        PyErr_Format(NativeError, "%U: path `direct` is not available on this machine; use `inject`", name);
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
    PyErr_SetString(FiberError, "this function was never initialised");
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

static PyTypeObject FunctionType = {
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

/* ---- the module ---- */

static int is_subclass(PyObject *found, PyTypeObject *base) {
    if (PyType_Check(found) && PyType_IsSubtype((PyTypeObject *)found, base) &&
        ((PyTypeObject *)found)->tp_basicsize >= base->tp_basicsize)
        return 1;
    PyErr_Format(PyExc_TypeError, "found %R, expected a subclass of %s", found, base->tp_name);
    return 0;
}

static PyObject *configure(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"fiber_class", "event_class", "unwound_error", "stack_bytes", "max_stack_bytes", NULL};
    PyObject *fiber, *event, *error;
    Py_ssize_t stack_bytes, max_stack_bytes;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOnn", names, &fiber, &event, &error, &stack_bytes,
                                     &max_stack_bytes) ||
        !is_subclass(fiber, &FiberType) || !is_subclass(event, &EventType))
        return NULL;
    Py_XSETREF(fiber_class, (PyTypeObject *)Py_NewRef(fiber));
    Py_XSETREF(event_class, (PyTypeObject *)Py_NewRef(event));
    Py_XSETREF(unwound_error, Py_NewRef(error));
    call_stack_bytes = (size_t)stack_bytes;
    call_max_stack_bytes = (size_t)max_stack_bytes;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"configure", (PyCFunction)(void (*)(void))configure, METH_VARARGS | METH_KEYWORDS,
     "configure(fiber_class, event_class, unwound_error, stack_bytes, max_stack_bytes)."},
    {NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, .m_name = "trapline._core", .m_doc = "Fibers, events and functions.", .m_size = -1,
    .m_methods = module_methods,
};

static PyObject *error_class(PyObject *errors, const char *name) {
    PyObject *found = PyObject_GetAttrString(errors, name);
    if (found && !PyExceptionClass_Check(found)) Py_CLEAR(found);
    return found;
}

PyMODINIT_FUNC PyInit__core(void) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "trapline works in the main interpreter only: signal handlers belong to the "
                                           "whole process");
        return NULL;
    }
    PyObject *errors = PyImport_ImportModule("trapline.errors");
    if (!errors) return NULL;
    FiberError = error_class(errors, "FiberError");
    NativeError = error_class(errors, "NativeError");
    Py_DECREF(errors);
    if (!FiberError || !NativeError) return NULL;
    tl_signals_set_python((const void *)(uintptr_t)PyErr_CheckSignals);
    int error = tl_start();
    if (error) return PyErr_Format(NativeError, "the native core cannot start: %s", strerror(-error));
    PyObject *module = PyModule_Create(&module_definition);
    if (!module) return NULL;
    if (PyModule_AddType(module, &FiberType) || PyModule_AddType(module, &EventType) ||
        PyModule_AddType(module, &FunctionType)) {
        Py_DECREF(module);
        return NULL;
    }
    fiber_class = (PyTypeObject *)Py_NewRef((PyObject *)&FiberType);
    event_class = (PyTypeObject *)Py_NewRef((PyObject *)&EventType);
    unwound_error = Py_NewRef(PyExc_RuntimeError);
    return module;
}
