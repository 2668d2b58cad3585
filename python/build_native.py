"""Writes the C source of `esker._native` from the public headers: cffi, API mode, stable ABI.

    build_native.py INCLUDE_DIR OUTPUT.c

The declarations that cffi needs are the headers themselves without comments and preprocessor lines, so a
function added there is in the extension by the next build, and the C compiler checks every declaration.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# In the order of inclusion: a header uses only what stands before it.
HEADERS = [
    "status",
    "key",
    "log",
    "profile",
    "column",
    "codec",
    "ref",
    "store",
    "reader",
    "query",
    "check",
    "machine",
    "nearest",
    "plain",
    "replay",
    "ring",
    "arrow",
    "arrow_encode",
    "arrow_store",
    "storage_config",
    "daq",
    "daemon",
]

# The C library calls these from its own threads or from the calling one; esker/_log.py and esker/_check.py
# define them.
CALLBACKS = """
extern "Python" {
    void esker_python_log(void *, esk_log_level, const char *);
    void esker_python_finding(void *, const esk_finding *);
    bool esker_python_progress(void *, uint64_t, uint64_t);
}
void esker_log(void *arg, esk_log_level level, const char *message);
void esker_log_enable(bool enable);
void esker_release_nothing_schema(struct ArrowSchema *schema);
void esker_release_nothing_array(struct ArrowArray *array);
void esker_free(void *memory);
void *esker_schema_new(void);
void esker_schema_free(void *schema);
void *esker_schema_destructor(void);
void *esker_array_new(void);
void esker_array_free(void *array);
void *esker_array_destructor(void);
void *esker_stream_new(void);
void esker_stream_free(void *stream);
void *esker_stream_destructor(void);
"""

# Between the library's threads and Python stands a gate that is shut when the interpreter begins to end:
# from then on no thread of the library asks for the interpreter's lock.
SOURCE = """
#include <esker/esker.h>
#include <stdatomic.h>
#include <stdlib.h>

static void esker_python_log(void *, esk_log_level, const char *);
static atomic_bool log_enabled;

static void esker_log_enable(bool enable)
{
    atomic_store(&log_enabled, enable);
}

static void esker_log(void *arg, esk_log_level level, const char *message)
{
    if (atomic_load(&log_enabled))
        esker_python_log(arg, level, message);
}

/* Arrays that Python owns: whoever is lent them has nothing to release. */
static void esker_release_nothing_schema(struct ArrowSchema *schema)
{
    schema->release = NULL;
}

static void esker_release_nothing_array(struct ArrowArray *array)
{
    array->release = NULL;
}

static void esker_free(void *memory)
{
    free(memory);
}

/* A schema, array or stream in a capsule: whoever takes it out leaves an empty one behind. */
#define CAPSULE(KIND, TYPE, NAME)                                        \\
    static void *esker_##KIND##_new(void)                                \\
    {                                                                    \\
        return calloc(1, sizeof(struct TYPE));                           \\
    }                                                                    \\
    static void esker_##KIND##_free(void *memory)                        \\
    {                                                                    \\
        struct TYPE *held = memory;                                      \\
        if (held != NULL && held->release != NULL)                       \\
            held->release(held);                                         \\
        free(held);                                                      \\
    }                                                                    \\
    static void esker_destroy_##KIND(PyObject *capsule)                  \\
    {                                                                    \\
        esker_##KIND##_free(PyCapsule_GetPointer(capsule, NAME));        \\
    }                                                                    \\
    static void *esker_##KIND##_destructor(void)                         \\
    {                                                                    \\
        return (void *)esker_destroy_##KIND;                             \\
    }
CAPSULE(schema, ArrowSchema, "arrow_schema")
CAPSULE(array, ArrowArray, "arrow_array")
CAPSULE(stream, ArrowArrayStream, "arrow_array_stream")
"""


def declarations(include_dir: Path) -> str:
    """The public headers as cffi reads them."""
    parts = []
    for name in HEADERS:
        text = (include_dir / "esker" / f"{name}.h").read_text(encoding="utf-8")
        text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
        text = re.sub(r"\s*\\\n\s*", " ", text)
        text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
        constants = re.findall(r"^#define\s+(ESK_(?:DAQ|MAX)_\w+)\s+(\d+)\s*?$", text, flags=re.MULTILINE)
        text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
        text = re.sub(r"\bESK_API\b|\bESK_PRINTF\s*\([^)]*\)", "", text)
        parts.extend(f"#define {constant} {value}" for constant, value in constants)
        parts.append(text)
    return "\n".join(parts) + CALLBACKS


def main() -> None:
    """Writes the C source."""
    from cffi import FFI

    include_dir, output = Path(sys.argv[1]), sys.argv[2]
    ffi = FFI()
    ffi.cdef(declarations(include_dir))
    ffi.set_source("esker._native", SOURCE)
    ffi.emit_c_code(output)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
