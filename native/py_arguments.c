/* Arguments from Python objects into registers, and results back. */
#include "py_core.h"

#include "context.h"

#define MOST_ARGUMENTS 64

/* Type codes. Must match trapline.runtime.signature.CODES.
 *   i u  32 bits signed, unsigned     l L  64 bits     f d  float, double     v  nothing
 *   *    by the Python type: an int of -2**63 .. 2**64-1 is 64 bits, a float is a double */

static int bad_argument(PyObject *name, Py_ssize_t index, const char *expected, PyObject *found) {
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_TypeError))
        return -1;
    PyErr_Clear();
    PyErr_Format(py_fiber_error, "%U: argument %zd: found %R, expected %s", name, index, found, expected);
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

int py_set_arguments(struct tl_fiber *f, PyObject *name, PyObject *parameters, PyObject *const *args,
                         Py_ssize_t count) {
    const char *codes = NULL;
    uint64_t words[MOST_ARGUMENTS];
    unsigned integers = 0, floats = 0, stacked = 0;
    if (parameters != Py_None) {
        codes = PyBytes_AS_STRING(parameters);
        if (PyBytes_GET_SIZE(parameters) != count) {
            PyErr_Format(py_fiber_error, "%U: found %zd arguments, expected %zd", name, count, PyBytes_GET_SIZE(parameters));
            return -1;
        }
    }
    if (count > MOST_ARGUMENTS) {
        PyErr_Format(py_fiber_error, "%U: found %zd arguments, expected at most %d", name, count, MOST_ARGUMENTS);
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

PyObject *py_result(const struct tl_fiber *f, char code) {
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

int py_check_codes(PyObject *parameters, int result) {
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
