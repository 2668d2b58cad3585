/* Arrow: record batches of the C data interface as IPC messages, streams and files; schemas as JSON.
 *
 * What is written is little-endian, metadata version V5, not compressed. Buffers are aligned to 8 bytes, or
 * to 64 with ESK_ARROW_ALIGN_64, counted from the first byte of a message, stream or file. Slices are written
 * as what they show and nothing more: offsets begin at 0, bitmaps at their first bit, a bitmap without a
 * missing value is left out, bits and bytes behind the end are 0. So equal values give equal bytes, except
 * for what lies under missing values.
 *
 * Every type that esk_arrow_open_file gives can be written, but run-end encoded ones. A type that cannot is
 * refused by name (ESK_EUNSUPPORTED) when a schema is given, before anything is written.
 *
 * Caveats:
 * - Arrays are taken at their word where the interface leaves no way to check: a buffer is as large as its
 *   array says. Lengths, offsets and counts are checked. For arrays from strangers, call esk_arrow_validate
 *   first.
 * - A batch's top level has no missing rows in IPC: one that has is refused.
 *
 * Nothing here keeps or releases a schema or array of the caller's; both may go when the call has returned.
 * An encoder or writer is for one thread at a time. */
#ifndef ESKER_ARROW_ENCODE_H
#define ESKER_ARROW_ENCODE_H

#include <esker/arrow.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESK_ARROW_STREAM 0u    /* messages and the end-of-stream mark */
#define ESK_ARROW_FILE 1u      /* the same between magics, with a footer for random access */
#define ESK_ARROW_ALIGN_64 64u /* flag: buffers aligned to 64 bytes instead of 8 */

/* ---- single messages, into memory ---- */

/* Writes batches of one schema. What does not depend on the batch is prepared once; after
 * esk_arrow_encoder_create nothing is allocated. */
typedef struct esk_arrow_encoder esk_arrow_encoder;

/* For batches of `schema`, a struct whose children are the columns; `flags`: 0 or ESK_ARROW_ALIGN_64. The
 * caller owns *ret_encoder. Errors: ESK_EUNSUPPORTED (a type, by name), ESK_EINVAL (the schema is malformed;
 * flags), ESK_ENOMEM. */
ESK_API esk_status esk_arrow_encoder_create(
	const struct ArrowSchema *schema, unsigned flags, esk_arrow_encoder **ret_encoder, esk_error *err);

/* NULL is allowed. */
ESK_API void esk_arrow_encoder_destroy(esk_arrow_encoder *encoder);

/* The schema message, of *ret_bytes bytes. Borrowed until the encoder is destroyed. */
ESK_API const void *esk_arrow_encoder_schema(const esk_arrow_encoder *encoder, size_t *ret_bytes);

/* How many bytes esk_arrow_encoder_batch will write for this array. Errors: ESK_EINVAL (the array does not
 * fit the schema, or is not sound). */
ESK_API esk_status esk_arrow_encoder_batch_bytes(
	esk_arrow_encoder *encoder, const struct ArrowArray *array, size_t *ret_bytes, esk_error *err);

/* Writes the batch `array`, a struct array, to `buf`: the messages of all its dictionaries, then the one of
 * the record batch, so that it can be read knowing nothing but the schema. *ret_bytes gets how many bytes;
 * buf best begins at a multiple of the alignment. Errors: ESK_EINVAL as above; ESK_ERANGE where it takes more
 * than `buf_bytes`: buf is untouched then. */
ESK_API esk_status esk_arrow_encoder_batch(esk_arrow_encoder *encoder, const struct ArrowArray *array,
	void *buf, size_t buf_bytes, size_t *ret_bytes, esk_error *err);

/* The same for once, without an encoder to keep. Any thread. Errors: as above, and ESK_ENOMEM. */
ESK_API esk_status esk_arrow_schema_message_bytes(
	const struct ArrowSchema *schema, size_t *ret_bytes, esk_error *err);
ESK_API esk_status esk_arrow_encode_schema(
	const struct ArrowSchema *schema, void *buf, size_t buf_bytes, size_t *ret_bytes, esk_error *err);
ESK_API esk_status esk_arrow_batch_message_bytes(
	const struct ArrowSchema *schema, const struct ArrowArray *array, size_t *ret_bytes, esk_error *err);
ESK_API esk_status esk_arrow_encode_batch(const struct ArrowSchema *schema, const struct ArrowArray *array,
	void *buf, size_t buf_bytes, size_t *ret_bytes, esk_error *err);

/* ---- streams and files ---- */

/* Writes an IPC stream or file. */
typedef struct esk_arrow_writer esk_arrow_writer;

/* Takes `size` bytes, all of them; what it returns is what the writer's call returns. */
typedef esk_status (*esk_arrow_write_fn)(void *arg, const void *data, size_t size, esk_error *err);

/* Begins the file `path`: it is written beside it, and takes the name, also from a file that is there, when
 * esk_arrow_writer_close has everything on the disk. `format` is ESK_ARROW_STREAM or ESK_ARROW_FILE, with
 * ESK_ARROW_ALIGN_64 or without. The caller owns *ret_writer: close or discard it.
 * Errors: ESK_EUNSUPPORTED (a type, by name; nothing was made then), ESK_EINVAL, ESK_ENOTFOUND (the
 * directory), ESK_EACCES, ESK_ENOSPC, ESK_EIO, ESK_ENOMEM. */
ESK_API esk_status esk_arrow_writer_open_file(const char *path, unsigned format,
	const struct ArrowSchema *schema, esk_arrow_writer **ret_writer, esk_error *err);

/* The same through a callback: what a call has to write was given to `write` when the call returns. */
ESK_API esk_status esk_arrow_writer_open(esk_arrow_write_fn write, void *arg, unsigned format,
	const struct ArrowSchema *schema, esk_arrow_writer **ret_writer, esk_error *err);

/* Writes a batch, a struct array, and before it those of its dictionaries that are not what they were: as a
 * delta where values were added behind, else anew. A file knows one dictionary per field: there, one that
 * became another is ESK_EUNSUPPORTED. Errors: that and ESK_EINVAL (the array does not fit the schema, or is
 * not sound), ESK_ENOMEM: nothing was written, and the writer is as it was; ESK_EIO, ESK_ENOSPC and what a
 * callback returned: the writer is broken, and takes nothing more (ESK_ECLOSED). */
ESK_API esk_status esk_arrow_writer_append(
	esk_arrow_writer *writer, const struct ArrowArray *batch, esk_error *err);

/* Writes the end and frees the writer; a file is on the disk and has its name when this returns. On failure,
 * also one of an earlier call, the writer is freed as well and nothing is left of its file, except where only
 * making its name durable failed: then the file is there, and a power cut may take its name back. A process
 * that dies before leaves a file beside it whose name ends in ".part". NULL is allowed.
 * Errors: ESK_EIO, ESK_ENOSPC, ESK_ENOMEM, and what a callback returned. */
ESK_API esk_status esk_arrow_writer_close(esk_arrow_writer *writer, esk_error *err);

/* Frees the writer; nothing is left of its file, and a callback gets nothing more. NULL is allowed. */
ESK_API void esk_arrow_writer_discard(esk_arrow_writer *writer);

/* ---- schemas as JSON ---- */

/* The schema in the JSON form of Arrow's integration tests: {"fields": [{"name", "nullable", "type": {"name",
 * ...}, "children": [...], "dictionary"?: {"id", "indexType", "isOrdered"}, "metadata"?: [{"key", "value"},
 * ...]}, ...], "metadata"?}. A key or value of metadata that is not UTF-8 is given in base64, as "key_base64"
 * or "value_base64". *ret_text is to be freed with esk_arrow_text_free. Errors: ESK_EUNSUPPORTED, ESK_EINVAL
 * (a name is not UTF-8; the schema is malformed), ESK_ENOMEM. Any thread. */
ESK_API esk_status esk_arrow_schema_to_json(
	const struct ArrowSchema *schema, char **ret_text, esk_error *err);

/* NULL is allowed. */
ESK_API void esk_arrow_text_free(char *text);

/* And back: the caller releases *ret_schema. Members that are not known are not looked at. Errors: ESK_EINVAL
 * (where and what was expected), ESK_EUNSUPPORTED (a type, by name), ESK_ENOMEM. Any thread. */
ESK_API esk_status esk_arrow_schema_from_json(
	const char *text, struct ArrowSchema *ret_schema, esk_error *err);

#ifdef __cplusplus
}
#endif
#endif
