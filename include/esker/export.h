/* What is visible outside the library: every exported symbol carries ESK_API and the prefix esk_. */
#ifndef ESKER_EXPORT_H
#define ESKER_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define ESK_API __attribute__((visibility("default")))
#define ESK_PRINTF(format_index, first_arg) __attribute__((format(printf, format_index, first_arg)))
#else
#define ESK_API
#define ESK_PRINTF(format_index, first_arg)
#endif

#endif
