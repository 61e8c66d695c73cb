/* The module trapline._core: its types, what `configure` sets, its start. */
#include "py_core.h"

#include "code.h"
#include "memory.h"
#include "py_wasm.h"
#include "signals.h"

struct py_settings py_settings = {.stack_bytes = 256 << 10, .max_stack_bytes = 8 << 20};
PyObject *py_fiber_error, *py_native_error, *py_call_error, *py_memory_error;

static int is_subclass(PyObject *found, PyTypeObject *base) {
    if (PyType_Check(found) && PyType_IsSubtype((PyTypeObject *)found, base) &&
        ((PyTypeObject *)found)->tp_basicsize >= base->tp_basicsize)
        return 1;
    PyErr_Format(PyExc_TypeError, "found %R, expected a subclass of %s", found, base->tp_name);
    return 0;
}

/* A subinterpreter gets the module without its init function where the main interpreter has it already. */
static int in_main_interpreter(void) {
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) return 1;
    PyErr_SetString(PyExc_ImportError, "trapline works in the main interpreter only: signal handlers belong to the "
                                       "whole process");
    return 0;
}

static PyObject *configure(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"fiber_class",  "event_class", "unwound_error",
                            "word_offsets", "stack_bytes", "max_stack_bytes", NULL};
    PyObject *fiber, *event, *error, *offsets;
    Py_ssize_t stack_bytes, max_stack_bytes;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO!nn", names, &fiber, &event, &error, &PyDict_Type, &offsets,
                                     &stack_bytes, &max_stack_bytes) ||
        !is_subclass(fiber, &py_fiber_type) || !is_subclass(event, &py_event_type))
        return NULL;
    PyObject *name, *offset;
    for (Py_ssize_t at = 0; PyDict_Next(offsets, &at, &name, &offset);) {
        long place = PyLong_AsLong(offset);
        if (place == -1 && PyErr_Occurred()) return NULL;
        if (place >= 0 && place % 8 == 0 && place < (long)offsetof(struct tl_fiber, pending)) continue;
        return PyErr_Format(PyExc_ValueError, "word_offsets: found %ld, expected a word of the record", place);
    }
    Py_XSETREF(py_settings.fiber_class, (PyTypeObject *)Py_NewRef(fiber));
    Py_XSETREF(py_settings.event_class, (PyTypeObject *)Py_NewRef(event));
    Py_XSETREF(py_settings.unwound_error, Py_NewRef(error));
    Py_XSETREF(py_settings.word_offsets, Py_NewRef(offsets));
    py_settings.stack_bytes = (size_t)stack_bytes;
    py_settings.max_stack_bytes = (size_t)max_stack_bytes;
    Py_RETURN_NONE;
}

static PyObject *check_interpreter(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (!in_main_interpreter()) return NULL;
    Py_RETURN_NONE;
}

static void free_code(PyObject *capsule) { tl_code_free(PyCapsule_GetPointer(capsule, NULL)); }

/* Neither cffi's `gc` nor a `__del__` will do: the garbage collector runs both before finalisers that may still call the
 * code, and in any order. This is freed with the last reference. */
static PyObject *hold_code(PyObject *module, PyObject *address) {
    (void)module;
    void *code = PyLong_AsVoidPtr(address);
    return code || PyErr_Occurred() ? PyCapsule_New(code, NULL, free_code) : NULL;
}

static PyMethodDef module_methods[] = {
    {"check_interpreter", check_interpreter, METH_NOARGS, "Raises ImportError in a subinterpreter."},
    {"configure", (PyCFunction)(void (*)(void))configure, METH_VARARGS | METH_KEYWORDS,
     "configure(fiber_class, event_class, unwound_error, word_offsets, stack_bytes, max_stack_bytes)."},
    {"hold_code", hold_code, METH_O, "hold_code(address): an object that frees a struct tl_code as it dies."},
    {"wasm_frames", (PyCFunction)(void (*)(void))py_wasm_frames, METH_FASTCALL, "wasm_frames(fiber=None, most=0)."},
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
    if (!in_main_interpreter()) return NULL;
    PyObject *errors = PyImport_ImportModule("trapline.errors");
    if (!errors) return NULL;
    py_fiber_error = error_class(errors, "FiberError");
    py_native_error = error_class(errors, "NativeError");
    py_call_error = error_class(errors, "CallError");
    py_memory_error = error_class(errors, "MemoryAccessError");
    Py_DECREF(errors);
    if (!py_fiber_error || !py_native_error || !py_call_error || !py_memory_error) return NULL;
    if (py_words_start() || py_host_start()) return NULL;
    tl_signals_set_python((const void *)(uintptr_t)PyErr_CheckSignals);
    int error = tl_start();
    if (!error) error = tl_memory_start();
    if (error == TL_ERR_SHADOW_STACK)
        return PyErr_Format(py_native_error, "this process runs with a user shadow stack, which does not allow native "
                                             "code on stacks of its own; start it with glibc.cpu.x86_shstk=off in "
                                             "GLIBC_TUNABLES");
    if (error) return PyErr_Format(py_native_error, "the native core cannot start: %s", strerror(-error));
    PyObject *module = PyModule_Create(&module_definition);
    if (!module) return NULL;
    PyTypeObject *const types[] = {&py_fiber_type,         &py_event_type,  &py_function_type, &py_registers_type,
                                   &py_wasm_function_type, &py_memory_type, &py_table_type,    &py_block_type,
                                   &py_host_function_type};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (PyModule_AddType(module, types[i])) {
            Py_DECREF(module);
            return NULL;
        }
    }
    py_settings.fiber_class = (PyTypeObject *)Py_NewRef((PyObject *)&py_fiber_type);
    py_settings.event_class = (PyTypeObject *)Py_NewRef((PyObject *)&py_event_type);
    py_settings.unwound_error = Py_NewRef(PyExc_RuntimeError);
    return module;
}
