/* Words out of Python objects and back. */
#include "py_wasm.h"

#define MOST_WORDS 1000

static PyObject *to_word_name, *from_word_name, *externref_code, *funcref_code;

int py_words_start(void) {
    to_word_name = PyUnicode_InternFromString("to_word");
    from_word_name = PyUnicode_InternFromString("from_word");
    externref_code = PyUnicode_InternFromString("r");
    funcref_code = PyUnicode_InternFromString("R");
    return to_word_name && from_word_name && externref_code && funcref_code ? 0 : -1;
}

int py_check_word_codes(const char *what, PyObject *codes) {
    Py_ssize_t count = PyBytes_GET_SIZE(codes);
    if (count > MOST_WORDS) {
        PyErr_Format(PyExc_ValueError, "%s: found %zd, expected at most %d", what, count, MOST_WORDS);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        char code = PyBytes_AS_STRING(codes)[i];
        if (code && strchr("ilfdrR", code)) continue;
        PyErr_Format(PyExc_ValueError, "%s: unknown type code %d", what, code);
        return -1;
    }
    return 0;
}

/* ---- floats: NaNs bit by bit, since a conversion by the processor makes signalling ones quiet ---- */

static uint32_t single_bits(double value) {
    uint64_t wide;
    memcpy(&wide, &value, 8);
    if (value != value) {
        uint32_t fraction = (uint32_t)(wide >> 29) & 0x7fffff;
        return (uint32_t)(wide >> 32 & 0x80000000) | 0x7f800000 | (fraction ? fraction : 0x400000);
    }
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, 4);
    return bits;
}

static PyObject *single_value(uint32_t bits) {
    float single;
    double value;
    memcpy(&single, &bits, 4);
    if (single != single) {
        uint64_t wide = (uint64_t)(bits & 0x80000000) << 32 | (uint64_t)0x7ff << 52 | (uint64_t)(bits & 0x7fffff) << 29;
        memcpy(&value, &wide, 8);
    } else {
        value = single;
    }
    return PyFloat_FromDouble(value);
}

/* 0, -1 or 1 as py_word. */
static int number(PyObject *value, double *found) {
    if (PyFloat_Check(value)) {
        *found = PyFloat_AS_DOUBLE(value);
        return 0;
    }
    if (!PyLong_Check(value)) return 1;
    *found = PyLong_AsDouble(value);
    if (*found != -1.0 || !PyErr_Occurred()) return 0;
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return -1;
    PyErr_Clear();
    return 1;
}

/* ---- integers ---- */

static int integer(char code, PyObject *value, uint64_t *word) {
    if (!PyLong_Check(value)) return 1;
    int overflow;
    long long found = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (found == -1 && !overflow && PyErr_Occurred()) return -1;
    if (code == 'i') {
        if (overflow || found < INT32_MIN || found > UINT32_MAX) return 1;
        *word = (uint32_t)found;
        return 0;
    }
    *word = (uint64_t)found;
    if (!overflow) return 0;
    if (overflow < 0) return 1;
    *word = PyLong_AsUnsignedLongLong(value);
    if (*word != (uint64_t)-1 || !PyErr_Occurred()) return 0;
    PyErr_Clear(); /* an OverflowError, the only one for an int */
    return 1;
}

/* ---- references ---- */

static int reference(char code, PyObject *value, PyObject *convert, uint64_t *word) {
    PyObject *args[] = {convert, value, code == 'r' ? externref_code : funcref_code};
    PyObject *found = PyObject_VectorcallMethod(to_word_name, args, 3, NULL);
    if (!found) return -1;
    *word = PyLong_AsUnsignedLongLong(found); /* a TypeError where it is no int: convert is at fault, not the caller */
    Py_DECREF(found);
    return *word == (uint64_t)-1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *reference_value(char code, uint64_t word, PyObject *convert) {
    PyObject *number = PyLong_FromUnsignedLongLong(word);
    if (!number) return NULL;
    PyObject *args[] = {convert, number, code == 'r' ? externref_code : funcref_code};
    PyObject *value = PyObject_VectorcallMethod(from_word_name, args, 3, NULL);
    Py_DECREF(number);
    return value;
}

/* ---- all of them ---- */

int py_word(char code, PyObject *value, PyObject *convert, uint64_t *word) {
    double found;
    int bad;
    switch (code) {
    case 'i':
    case 'l':
        return integer(code, value, word);
    case 'f':
        bad = number(value, &found);
        if (!bad) *word = single_bits(found);
        return bad;
    case 'd':
        bad = number(value, &found);
        if (!bad) memcpy(word, &found, 8);
        return bad;
    default:
        return reference(code, value, convert, word);
    }
}

int py_word_error(PyObject *function, const char *place, Py_ssize_t index, char code, PyObject *value) {
    const char *expected = code == 'i'   ? "an integer of -2**31 .. 2**32-1 (i32)"
                           : code == 'l' ? "an integer of -2**63 .. 2**64-1 (i64)"
                           : code == 'f' ? "a number (f32)"
                                         : "a number (f64)";
    PyObject *shown = PyObject_Repr(value);
    if (!shown) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
        PyErr_Clear(); /* an int of more digits than Python likes to print, or a __repr__ that fails */
        shown = PyUnicode_FromFormat("an object of type %s", Py_TYPE(value)->tp_name);
        if (!shown) return -1;
    }
    if (index < 0) {
        PyErr_Format(py_call_error, "%U: %s: found %.200U, expected %s", function, place, shown, expected);
    } else {
        PyErr_Format(py_call_error, "%U: %s %zd: found %.200U, expected %s", function, place, index, shown, expected);
    }
    Py_DECREF(shown);
    return -1;
}

PyObject *py_word_value(char code, uint64_t word, PyObject *convert) {
    double value;
    switch (code) {
    case 'i':
        return PyLong_FromLong((int32_t)word);
    case 'l':
        return PyLong_FromLongLong((long long)word);
    case 'f':
        return single_value((uint32_t)word);
    case 'd':
        memcpy(&value, &word, 8);
        return PyFloat_FromDouble(value);
    default:
        return reference_value(code, word, convert);
    }
}

PyObject *py_words_value(PyObject *results, const uint64_t *words, PyObject *convert) {
    const char *codes = PyBytes_AS_STRING(results);
    Py_ssize_t count = PyBytes_GET_SIZE(results);
    if (count == 0) Py_RETURN_NONE;
    if (count == 1) return py_word_value(codes[0], words[0], convert);
    PyObject *all = PyTuple_New(count);
    for (Py_ssize_t i = 0; all && i < count; i++) {
        PyObject *value = py_word_value(codes[i], words[i], convert);
        if (value) {
            PyTuple_SET_ITEM(all, i, value);
        } else {
            Py_CLEAR(all);
        }
    }
    return all;
}

PyObject *py_take_exception(void) {
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback && value) PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}
