/* Dtypes and columns: what one cell of a stream is.
 *
 * A column has a dtype and a per-row shape; a 210x160x3 frame is one cell. Cells are C-contiguous,
 * native-endian (Esker runs on little-endian machines and writes little-endian files). The calls here are
 * safe from any thread. */
#ifndef ESKER_COLUMN_H
#define ESKER_COLUMN_H

#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum esk_kind {
	ESK_BOOL = 1, /* one byte, 0 or 1; HDF5's enum {FALSE, TRUE} as h5py writes it */
	ESK_I8,
	ESK_I16,
	ESK_I32,
	ESK_I64,
	ESK_U8,
	ESK_U16,
	ESK_U32,
	ESK_U64,
	ESK_F16,
	ESK_F32,
	ESK_F64,
	ESK_C64,     /* two f32: real, imaginary; HDF5's compound {r, i} as h5py writes it */
	ESK_C128,    /* two f64 */
	ESK_STRING,  /* UTF-8 of any length; a cell in memory is an esk_string */
	ESK_STRING_N /* UTF-8 in size_bytes bytes, NUL-padded */
} esk_kind;

/* An element type. size_bytes is the element's size in memory: 1..16 for numbers, N for str<N>,
 * sizeof(esk_string) for variable strings. */
typedef struct esk_dtype {
	esk_kind kind;
	uint32_t size_bytes;
} esk_dtype;

/* A variable-length string cell: `size` bytes at `data`, not NUL-terminated, no NUL inside. Borrowed. */
typedef struct esk_string {
	const char *data;
	size_t size;
} esk_string;

/* Rows of a column of a cell of rank r become a dataset of rank r + 1; HDF5 allows 32. */
#define ESK_MAX_RANK 31
#define ESK_MAX_NAME \
	255 /* room for a name; names have at most 200 bytes, so that file names made of them fit */
#define ESK_MAX_COLUMNS 4096

typedef struct esk_column {
	char name[ESK_MAX_NAME + 1]; /* no control characters; may be a path ("goal/position"): a dataset in
					groups below the stream's, each part a name */
	esk_dtype dtype;
	uint32_t rank;
	uint64_t shape[ESK_MAX_RANK]; /* of one cell; each at least 1 */
	bool nullable;       /* cells may be missing; validity is kept in the dataset "<name>_valid" */
	char codec[64];      /* "" for the run's default; see codec.h */
	uint64_t chunk_rows; /* rows per chunk; 0: about 1 MiB */
	char units[64];      /* "" for none; kept as the HDF5 attribute `units` */
	char long_name[128]; /* "" for none; kept as the HDF5 attribute `long_name` */
} esk_column;

/* Parses a dtype: bool i8 i16 i32 i64 u8 u16 u32 u64 f16 f32 f64 c64 c128 str str<N>; numpy's long names
 * (uint8, float32, complex64, …) too. Errors: ESK_EINVAL. */
ESK_API esk_status esk_dtype_parse(const char *text, esk_dtype *ret_dtype, esk_error *err);

/* Writes the short name ("u8", "str16") into `buf` of `buf_bytes`, NUL-terminated where that is not 0;
 * returns the length it has or would have. */
ESK_API size_t esk_dtype_format(esk_dtype dtype, char *buf, size_t buf_bytes);

/* Parses column specs separated by blanks, ',' or ';' (outside brackets), each
 *
 *     name ':' dtype [ '[' n {',' n} ']' ] [ '?' ] [ '@' codec ]
 *
 * as in "frames:u8[210,160,3]@gzip:1 action:i32 note:str?". '?' makes the column nullable.
 * On success *ret_columns is an array of *ret_count columns to free with esk_columns_free.
 * Errors: ESK_EINVAL names the position and what was expected there; ESK_ENOMEM. */
ESK_API esk_status esk_columns_parse(
	const char *text, esk_column **ret_columns, size_t *ret_count, esk_error *err);

/* Writes the spec of one column into `buf`, as esk_columns_parse reads it; returns the length it has or
 * would have. */
ESK_API size_t esk_column_format(const esk_column *column, char *buf, size_t buf_bytes);

/* Frees what esk_columns_parse returned. NULL is allowed. */
ESK_API void esk_columns_free(esk_column *columns);

/* Bytes of one cell in memory: size_bytes times the product of the shape. A column that esk_columns_parse
 * or a store returned never overflows. */
ESK_API uint64_t esk_column_cell_bytes(const esk_column *column);

#ifdef __cplusplus
}
#endif
#endif
