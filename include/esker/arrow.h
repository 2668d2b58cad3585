/* Arrow: record batches from IPC streams and files, as the Arrow C data interface.
 *
 * Everything read here may come from anyone: every length, offset, buffer and text is checked before it is
 * handed out, so that who holds an array may walk it without checks of its own. What is not sound is refused
 * with a message that says what, where (number of the message, byte, column), what was expected and what was
 * found.
 *
 * Caveats:
 * - Buffers of an array point into the message it was decoded from, unless its body is compressed or is not
 *   aligned to 8 bytes. Each call says how long that memory must live.
 * - A file is mapped. Who truncates it while it is being read raises SIGBUS, as with every mapping.
 * - Only little-endian streams on little-endian machines: others are refused.
 * - Views (string view, binary view, list view) are refused with ESK_EUNSUPPORTED.
 * - A compressed body of 256 KiB or more is decompressed by up to four threads. They belong to the decoder or
 *   stream, and sleep between batches.
 *
 * A decoder or stream is for one thread at a time. The arrays they give may be released by any thread. */
#ifndef ESKER_ARROW_H
#define ESKER_ARROW_H

#include <esker/export.h>
#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- part A: the C data interface and the C stream interface, as the Arrow format documents lay them out
 * ---- */

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
	const char *format;
	const char *name;
	const char *metadata;
	int64_t flags;
	int64_t n_children;
	struct ArrowSchema **children;
	struct ArrowSchema *dictionary;
	void (*release)(struct ArrowSchema *);
	void *private_data;
};

struct ArrowArray {
	int64_t length;
	int64_t null_count;
	int64_t offset;
	int64_t n_buffers;
	int64_t n_children;
	const void **buffers;
	struct ArrowArray **children;
	struct ArrowArray *dictionary;
	void (*release)(struct ArrowArray *);
	void *private_data;
};

#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
	int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
	int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
	const char *(*get_last_error)(struct ArrowArrayStream *);
	void (*release)(struct ArrowArrayStream *);
	void *private_data;
};

#endif

/* ---- part B: decoding IPC ---- */

/* What one message may hold at most: stored bytes, and bytes once its buffers are decompressed, each. */
#define ESK_ARROW_MESSAGE_BYTES (UINT64_C(1) << 30)

/* How deep a type may be nested. */
#define ESK_ARROW_DEPTH 64

/* Opens an Arrow IPC file, or a file that holds an IPC stream: the magic "ARROW1" tells them apart. Of an IPC
 * file the footer is checked against the messages, and its dictionaries are read first. The schema is decoded
 * before the call returns.
 *
 * *ret_stream belongs to the caller, who calls its `release`. Arrays and schemas it gave stay valid beyond
 * that, until they are released themselves. Its callbacks return 0 or an errno: ENOMEM, EIO, ENOTSUP (a type
 * or feature that is not offered), EINVAL (everything else); get_last_error has the message.
 *
 * Errors: ESK_ENOTFOUND, ESK_EACCES, ESK_EIO, ESK_ENOMEM; ESK_ECORRUPT (not Arrow IPC, or damaged);
 * ESK_EUNSUPPORTED (big-endian, a version before V4, a view type). */
ESK_API esk_status esk_arrow_open_file(const char *path, struct ArrowArrayStream *ret_stream, esk_error *err);

/* The same from `size` bytes at `data`, which stay as they are until `release(arg)` is called (it may be NULL
 * where they live on anyway): that happens once, when the stream and every array from it are released, by the
 * thread that releases the last. Where the call fails, `release` is not called. */
ESK_API esk_status esk_arrow_open_memory(const void *data, size_t size, void (*release)(void *arg), void *arg,
	struct ArrowArrayStream *ret_stream, esk_error *err);

/* The same from a descriptor: a pipe, a socket, a terminal, a file from where it stands. It is read message
 * by message, nothing beyond the end-of-stream mark, and no memory is taken for bytes that have not arrived.
 * The descriptor stays the caller's, who closes it after the stream is released. An IPC file is read as the
 * stream that is in it; its footer is left unread (some writers leave the schema to the footer: open their
 * files by path). */
ESK_API esk_status esk_arrow_open_fd(int fd, struct ArrowArrayStream *ret_stream, esk_error *err);

/* Decodes single messages, as they come from rings and sockets: knows one schema and its dictionaries. */
typedef struct esk_arrow_decoder esk_arrow_decoder;

/* The caller owns *ret_decoder. Errors: ESK_ENOMEM. */
ESK_API esk_status esk_arrow_decoder_create(esk_arrow_decoder **ret_decoder, esk_error *err);

/* Arrays it gave stay valid. NULL is allowed. */
ESK_API void esk_arrow_decoder_destroy(esk_arrow_decoder *decoder);

/* Another limit than ESK_ARROW_MESSAGE_BYTES for what one message may hold. Errors: ESK_EINVAL for 0. */
ESK_API esk_status esk_arrow_decoder_limit(esk_arrow_decoder *decoder, uint64_t max_bytes, esk_error *err);

/* Takes the one encapsulated message that begins at `data` and is whole within `size` bytes: a schema, a
 * dictionary (the first, a delta or a replacement) or a record batch. *ret_used gets its bytes, body
 * included; what follows is not looked at. For a record batch *ret_array gets the batch, a struct array,
 * which the caller releases; else ret_array->release is NULL. The end-of-stream mark is a message that does
 * nothing.
 *
 * Buffers of *ret_array point into `data`, which must stay as it is until the array is released, unless the
 * body is compressed; dictionaries are copied. The schema comes first; the same schema again is accepted.
 * Arrays keep the dictionary of their time. On failure the decoder is as it was before.
 *
 * Errors: ESK_ECORRUPT (damaged, cut short, a batch before its schema), ESK_ETYPE (another schema than the
 * first), ESK_EUNSUPPORTED, ESK_ERANGE (more bytes than the limit), ESK_ENOMEM. */
ESK_API esk_status esk_arrow_decoder_feed(esk_arrow_decoder *decoder, const void *data, size_t size,
	size_t *ret_used, struct ArrowArray *ret_array, esk_error *err);

/* The schema, a struct type whose children are the columns; NULL before one was fed. Borrowed: until the
 * decoder is destroyed; not to be released. */
ESK_API const struct ArrowSchema *esk_arrow_decoder_schema(const esk_arrow_decoder *decoder);

/* A copy of any schema, which the caller releases. Errors: ESK_EINVAL (not sound), ESK_ENOMEM. */
ESK_API esk_status esk_arrow_schema_copy(
	const struct ArrowSchema *schema, struct ArrowSchema *ret_schema, esk_error *err);

/* How many bytes the message that begins at `data` has, as far as its first `size` bytes say: for framing.
 * *ret_bytes is 0 where more must be seen first; 8 (4 in streams from before Arrow 0.15) is the end of the
 * stream: no message is as small. The message itself is not judged beyond what framing needs.
 *
 * Errors: ESK_ECORRUPT (no message begins so), ESK_ERANGE (more than `max_bytes`). Any thread. */
ESK_API esk_status esk_arrow_message_bytes(
	const void *data, size_t size, uint64_t max_bytes, uint64_t *ret_bytes, esk_error *err);

/* Walks an array of the C data interface against its schema and checks all that can be checked without
 * knowing how large its buffers are: that formats are known, children and dictionaries are there, no buffer
 * lacks or is off the alignment of its values, null counts agree with bitmaps, offsets rise and end within
 * the child, run ends rise, type ids are the union's, dictionary indices point into the dictionary, texts are
 * UTF-8. For arrays from callers, which must have memory behind every pointer as the interface demands.
 *
 * Errors: ESK_EINVAL (what is wrong, and in which column), ESK_EUNSUPPORTED (a format that is not known, or a
 * view). Any thread. */
ESK_API esk_status esk_arrow_validate(
	const struct ArrowSchema *schema, const struct ArrowArray *array, esk_error *err);

#ifdef __cplusplus
}
#endif
#endif
