/* Requests of WebAssembly code: calls of host functions, functions to compile; and the frames below such a call.
 *
 * The code stands in tl_stub_host while a request is answered; to the core its fiber is suspended. Python code that runs
 * on its behalf may call WebAssembly again, on another fiber, to any depth.
 */
#include "py_wasm.h"

#include "context.h"

static PyObject *compile_name;

int py_host_start(void) {
    compile_name = PyUnicode_InternFromString("compile_function");
    return compile_name ? 0 : -1;
}

/* The fibers of this thread that wait for an answer, the innermost first. */
struct activation {
    const struct tl_fiber *fiber;
    struct activation *outer;
};
static __thread struct activation *activations __attribute__((tls_model("initial-exec")));

static int in_stack(const struct tl_fiber *f, uint64_t address, unsigned bytes) {
    return address >= (uint64_t)f->stack_low && address <= (uint64_t)f->stack_high - bytes && address % 8 == 0;
}

/* ---- calls of host functions ---- */

#define FEW 8

/* The first argument of a function that wants its caller. A compiled frame has its instance block in the word below the
 * frame pointer; an entry thunk, whose frame is the outermost, has none. */
static PyObject *caller_of(const HostFunctionObject *self, const struct tl_fiber *f) {
    uint64_t thunk = tl_arch_fp(f), frame = in_stack(f, thunk, 16) ? *(uint64_t *)thunk : 0;
    PyObject *instance = Py_None;
    if (in_stack(f, frame, 16) && in_stack(f, frame - 8, 8) && *(uint64_t *)frame) {
        const uint64_t *block = *(uint64_t **)(frame - 8);
        if (block && block[TL_BLOCK_OBJECT]) instance = (PyObject *)block[TL_BLOCK_OBJECT];
    }
    Py_INCREF(instance);
    PyObject *caller = PyObject_CallOneArg(self->caller, instance);
    Py_DECREF(instance);
    return caller;
}

static int bad_results(const HostFunctionObject *self, PyObject *answer) {
    Py_ssize_t wanted = PyBytes_GET_SIZE(self->results);
    Py_ssize_t found = PyTuple_Check(answer) || PyList_Check(answer) ? PySequence_Size(answer) : -1;
    if (wanted == 0) {
        PyErr_Format(py_call_error, "%U: the host function returned an object of type %s, expected None", self->name,
                     Py_TYPE(answer)->tp_name);
    } else if (found < 0) {
        PyErr_Format(py_call_error, "%U: the host function returned an object of type %s, expected a tuple of %zd results",
                     self->name, Py_TYPE(answer)->tp_name, wanted);
    } else {
        PyErr_Format(py_call_error, "%U: the host function returned %zd results, expected %zd", self->name, found, wanted);
    }
    return -1;
}

static int set_results(const HostFunctionObject *self, PyObject *answer, uint64_t *words) {
    const char *codes = PyBytes_AS_STRING(self->results);
    Py_ssize_t count = PyBytes_GET_SIZE(self->results);
    if (count == 0) return answer == Py_None ? 0 : bad_results(self, answer);
    if (count == 1) {
        int bad = py_word(codes[0], answer, self->convert, words);
        return bad > 0 ? py_word_error(self->name, "result of the host function", -1, codes[0], answer) : bad;
    }
    if (!(PyTuple_Check(answer) || PyList_Check(answer)) || PySequence_Size(answer) != count) return bad_results(self, answer);
    PyObject *all = PySequence_Tuple(answer); /* a list could change while a reference is converted */
    if (!all) return -1;
    if (PyTuple_GET_SIZE(all) != count) { /* a subclass may iterate over others than it counts */
        int bad = bad_results(self, all);
        Py_DECREF(all);
        return bad;
    }
    int bad = 0;
    for (Py_ssize_t i = 0; !bad && i < count; i++) {
        bad = py_word(codes[i], PyTuple_GET_ITEM(all, i), self->convert, &words[i]);
        if (bad > 0)
            bad = py_word_error(self->name, "result of the host function", i, codes[i], PyTuple_GET_ITEM(all, i));
    }
    Py_DECREF(all);
    return bad;
}

static int host_call(HostFunctionObject *self, const struct tl_fiber *f, uint64_t *words) {
    const char *codes = PyBytes_AS_STRING(self->params);
    Py_ssize_t count = PyBytes_GET_SIZE(self->params), made = 0, has_caller = self->caller != Py_None;
    /* One place in front of the arguments, for a callable that wants to put `self` there. */
    PyObject *few[1 + FEW], **places = few, *answer = NULL;
    if (count + has_caller > FEW) places = PyMem_New(PyObject *, (size_t)(1 + count + has_caller));
    if (!places) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject **args = places + 1;
    if (has_caller && (args[0] = caller_of(self, f))) made = 1;
    int ok = made == has_caller;
    for (Py_ssize_t i = 0; ok && i < count; i++) {
        args[made] = py_word_value(codes[i], words[i], self->convert);
        ok = args[made] != NULL;
        made += ok;
    }
    if (ok) answer = PyObject_Vectorcall(self->callable, args, (size_t)made | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    while (made) Py_DECREF(args[--made]);
    if (places != few) PyMem_Free(places);
    if (!answer) return -1;
    int failed = set_results(self, answer, words);
    Py_DECREF(answer);
    return failed;
}

/* ---- functions to compile ---- */

static int compile(PyObject *instance, uint64_t *words) {
    PyObject *index = PyLong_FromUnsignedLongLong(words[0]);
    PyObject *answer = index ? PyObject_CallMethodOneArg(instance, compile_name, index) : NULL;
    Py_XDECREF(index);
    if (!answer) return -1;
    unsigned long long entry = PyLong_AsUnsignedLongLong(answer);
    Py_DECREF(answer);
    if (entry == (unsigned long long)-1 && PyErr_Occurred()) return -1;
    words[0] = entry;
    return 0;
}

int py_serve_request(struct tl_fiber *f) {
    struct tl_request request = tl_arch_request(f);
    PyObject *object = request.block ? (PyObject *)request.block[TL_BLOCK_OBJECT] : NULL;
    int failed = -1;
    if (!object || request.kind < TL_REQUEST_HOST_CALL || request.kind > TL_REQUEST_COMPILE) {
        PyErr_Format(py_fiber_error, "found request %d of a block of %s, expected a call of a host function or a "
                     "function to compile", (int)request.kind, object ? Py_TYPE(object)->tp_name : "nobody");
        return -1;
    }
    if (Py_EnterRecursiveCall(" while WebAssembly calls the host")) return -1;
    struct activation here = {f, activations};
    activations = &here;
    Py_INCREF(object);
    if (request.kind == TL_REQUEST_COMPILE) {
        failed = compile(object, request.words);
    } else if (PyObject_TypeCheck(object, &py_host_function_type)) {
        failed = host_call((HostFunctionObject *)object, f, request.words);
    } else {
        PyErr_Format(py_fiber_error, "found a host call of a %s, expected one of a host function", Py_TYPE(object)->tp_name);
    }
    Py_DECREF(object);
    activations = here.outer;
    Py_LeaveRecursiveCall();
    if (!failed) tl_arch_end_request(f);
    return failed;
}

/* ---- frames ---- */

/* (pc, frame pointer, stack pointer or 0) of each frame, from the innermost out, by the chain of frame records; of `most`
 * at most, unless that is 0. */
static PyObject *frames_of(const struct tl_fiber *f, Py_ssize_t most) {
    PyObject *frames = PyList_New(0);
    uint64_t pc = tl_arch_pc(f), fp = tl_arch_fp(f), sp = tl_arch_sp(f), lowest = sp;
    while (frames) {
        PyObject *row = Py_BuildValue("(KKK)", (unsigned long long)pc, (unsigned long long)fp, (unsigned long long)sp);
        if (!row || PyList_Append(frames, row)) Py_CLEAR(frames);
        Py_XDECREF(row);
        if (!frames || PyList_GET_SIZE(frames) == most) break;
        if (fp < lowest || !in_stack(f, fp, 16)) break; /* each record lies above the one before: no chain is endless */
        const uint64_t *record = (const uint64_t *)fp;
        lowest = fp + 16;
        fp = record[0];
        pc = record[1];
        sp = 0;
        if (pc == (uint64_t)tl_stub_exit) break;
    }
    return frames;
}

static int append_frames(PyObject *all, const struct tl_fiber *f, Py_ssize_t most) {
    PyObject *frames = frames_of(f, most);
    int failed = !frames || PyList_Append(all, frames);
    Py_XDECREF(frames);
    return failed;
}

PyObject *py_wasm_frames(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count > 2 || (count >= 1 && args[0] != Py_None && !PyObject_TypeCheck(args[0], &py_fiber_type)))
        return PyErr_Format(PyExc_TypeError, "wasm_frames(fiber=None, most=0)");
    Py_ssize_t most = count == 2 ? PyLong_AsSsize_t(args[1]) : 0;
    if (most == -1 && PyErr_Occurred()) return NULL;
    PyObject *all = PyList_New(0);
    if (!all) return NULL;
    if (count >= 1 && args[0] != Py_None) {
        FiberObject *fiber = (FiberObject *)args[0];
        if (!py_fiber_readable(fiber) || append_frames(all, fiber->fiber, most)) Py_CLEAR(all);
        return all;
    }
    for (const struct activation *a = activations; all && a; a = a->outer)
        if (append_frames(all, a->fiber, most)) Py_CLEAR(all);
    return all;
}

/* ---- the type HostFunction ---- */

static int host_init(HostFunctionObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"thunk", "params", "results", "type_number", "name", "callable", "convert", "caller", NULL};
    unsigned long long thunk, type_number;
    PyObject *params, *results, *name, *callable, *convert, *caller;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KSSKUOOO", names, &thunk, &params, &results, &type_number, &name,
                                     &callable, &convert, &caller))
        return -1;
    if (self->callable) {
        PyErr_SetString(py_fiber_error, "a host function is initialised once"); /* native code may have its record */
        return -1;
    }
    if (!PyCallable_Check(callable) || (caller != Py_None && !PyCallable_Check(caller))) {
        PyErr_Format(PyExc_TypeError, "%U: found %R and %R, expected a callable and a callable or None", name, callable, caller);
        return -1;
    }
    if (py_check_word_codes("params", params) || py_check_word_codes("results", results)) return -1;
    self->record = (struct tl_function_record){thunk, self->block, type_number, 0};
    self->block[TL_BLOCK_HOST_STUB] = (uint64_t)(uintptr_t)tl_stub_host;
    self->block[TL_BLOCK_HELPERS] = (uint64_t)(uintptr_t)tl_helpers;
    self->block[TL_BLOCK_OBJECT] = (uint64_t)(uintptr_t)self;
    Py_XSETREF(self->params, Py_NewRef(params));
    Py_XSETREF(self->results, Py_NewRef(results));
    Py_XSETREF(self->name, Py_NewRef(name));
    Py_XSETREF(self->convert, Py_NewRef(convert));
    Py_XSETREF(self->caller, Py_NewRef(caller));
    Py_XSETREF(self->callable, Py_NewRef(callable));
    return 0;
}

static int host_traverse(HostFunctionObject *self, visitproc visit, void *arg) {
    Py_VISIT(self->callable);
    Py_VISIT(self->convert);
    Py_VISIT(self->caller);
    return 0;
}

/* A call that a finaliser makes all the same gets a TypeError: None cannot be called. */
static int host_clear(HostFunctionObject *self) {
    Py_XSETREF(self->callable, Py_NewRef(Py_None));
    Py_XSETREF(self->convert, Py_NewRef(Py_None));
    Py_XSETREF(self->caller, Py_NewRef(Py_None));
    return 0;
}

static void host_dealloc(HostFunctionObject *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->callable);
    Py_CLEAR(self->convert);
    Py_CLEAR(self->caller);
    Py_CLEAR(self->name);
    Py_CLEAR(self->params);
    Py_CLEAR(self->results);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *host_record(HostFunctionObject *self, void *unused) {
    (void)unused;
    if (self->callable) return PyLong_FromUnsignedLongLong((uint64_t)(uintptr_t)&self->record);
    PyErr_SetString(py_fiber_error, "this host function was never initialised");
    return NULL;
}

static PyGetSetDef host_getset[] = {
    {"record", (getter)host_record, NULL, "Address of its function record.", NULL},
    {NULL},
};

static PyMemberDef host_members[] = {
    {"name", T_OBJECT_EX, offsetof(HostFunctionObject, name), READONLY, "What messages call it."},
    {"callable", T_OBJECT_EX, offsetof(HostFunctionObject, callable), READONLY, "What is called."},
    {"params", T_OBJECT_EX, offsetof(HostFunctionObject, params), READONLY, "Type codes of the parameters."},
    {"results", T_OBJECT_EX, offsetof(HostFunctionObject, results), READONLY, "Type codes of the results."},
    {"type_number", T_ULONGLONG, offsetof(HostFunctionObject, record.type_number), READONLY, "Of its signature."},
    {NULL},
};

PyTypeObject py_host_function_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "trapline._core.HostFunction",
    .tp_basicsize = sizeof(HostFunctionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A Python callable that WebAssembly code calls: the function record that its addresses point at.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)host_init,
    .tp_traverse = (traverseproc)host_traverse,
    .tp_clear = (inquiry)host_clear,
    .tp_dealloc = (destructor)host_dealloc,
    .tp_getset = host_getset,
    .tp_members = host_members,
};
