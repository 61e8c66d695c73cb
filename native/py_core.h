/* trapline._core: the fast way between Python and the core, as C-API types.
 *
 * cffi drops the GIL around every call, which costs more than a switch into native code and back; these types keep
 * it (see py_run.c). They live in the same shared object as the cffi module, so both use one core.
 *
 * Lifetimes: a Fiber owns its tl_fiber and a reference to whatever keeps its code mapped (`owner`). An Event belongs
 * to one stop of one Fiber. A Function keeps its code's owner too and runs on a fiber borrowed for the call.
 * Registers refer to their Fiber.
 */
#ifndef TL_PY_CORE_H
#define TL_PY_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "fiber.h"

/* Kinds of event. Must match trapline.runtime.trap.StopReason. The last is none: go on. */
enum event_kind {
    EVENT_FINISHED,
    EVENT_TRAP,
    EVENT_INTERRUPT,
    EVENT_CHECK,
    EVENT_BREAKPOINT,
    EVENT_STEP,
    EVENT_EXCEPTION, /* a call of a WebAssembly function: Python code that ran on its behalf raised */
    EVENT_NONE,
};

/* What happens to the GIL while native code runs. Must match trapline.tuning.GIL_*. */
enum gil_mode { GIL_LAZY, GIL_RELEASE };


typedef struct {
    PyObject_HEAD
    struct tl_fiber *fiber;
    PyObject *owner;
    PyObject *name;
    struct wasm_function *call; /* the call of a WebAssembly function, or NULL: native code of another kind */
    uint64_t *words;            /* of that call: arguments, then results; on the fiber's stack */
    PyObject *exception;        /* that EVENT_EXCEPTION is about, or NULL */
    char result;         /* type code; where `call` is NULL */
    uint8_t gil;         /* enum gil_mode */
    uint8_t kind;        /* enum event_kind of the last stop */
    uint32_t run_gate;   /* 1 while a thread is in a call that runs it */
    uint32_t gate_generation; /* tl_fork_generation when that call began */
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

typedef struct {
    PyObject_HEAD
    FiberObject *fiber;
} RegistersObject;

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN extern PyTypeObject py_fiber_type, py_event_type, py_function_type, py_registers_type;

/* What `configure` set: Python subclasses of the types here, callable(fiber) -> exception for a call that stopped,
 * name -> offset of each register that is one whole word of the record, stack sizes of calls. */
struct py_settings {
    PyTypeObject *fiber_class, *event_class;
    PyObject *unwound_error, *word_offsets;
    size_t stack_bytes, max_stack_bytes;
};
HIDDEN extern struct py_settings py_settings;
HIDDEN extern PyObject *py_fiber_error, *py_native_error, *py_call_error, *py_memory_error;

/* py_run.c */
HIDDEN uint8_t py_state(const struct tl_fiber *fiber);
/* The same with the call that runs it counted: it is RUNNING from its start to its end, and LOST where a fork left
 * behind the thread that makes the call. */
HIDDEN uint8_t py_fiber_state(const FiberObject *self);
HIDDEN void *py_state_error(const FiberObject *self, const char *wanted);
HIDDEN void *py_core_error(PyObject *name, int error);
/* Runs `fiber` to its next event; the GIL is held at the start and at the end. Returns 0 with *kind set, or -1 with a
 * Python exception: the fiber is then suspended and can be resumed; or -2 with one that says why it could not run.
 * Requests of WebAssembly code are answered on the way. */
HIDDEN int py_run_to_stop(struct tl_fiber *fiber, PyObject *name, uint8_t gil, enum event_kind *kind);

/* py_arguments.c */
HIDDEN int py_check_codes(PyObject *parameters, int result);
HIDDEN int py_set_arguments(struct tl_fiber *fiber, PyObject *name, PyObject *parameters, PyObject *const *args,
                            Py_ssize_t count);
HIDDEN PyObject *py_result(const struct tl_fiber *fiber, char code);

/* py_fiber.c */
HIDDEN int py_fiber_made(const FiberObject *self);
HIDDEN int py_fiber_readable(FiberObject *self);
HIDDEN int py_fiber_writable(FiberObject *self);
/* A Fiber object for a fiber that is not running; NULL with an exception, the fiber then is freed. */
HIDDEN FiberObject *py_fiber_adopt(struct tl_fiber *fiber, PyObject *owner, PyObject *name, uint8_t gil);
/* A call that ran on a borrowed fiber stopped there, `self->kind` says how: gives the event, and those that follow, to
 * the handler, or raises where that is None. The call's result; takes the reference to `self`. */
HIDDEN PyObject *py_call_stopped(FiberObject *self, PyObject *handler);

#endif
