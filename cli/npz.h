/* numpy's .npz: a zip of .npy files, written as a stream.
 *
 * Nothing is sought, so it may go into a pipe: sizes and checksum of a member follow it, and the directory at
 * the end has them all. zip64 is used where a size or an offset needs it. */
#ifndef CLI_NPZ_H
#define CLI_NPZ_H

#include "text.h"

typedef struct cli_npz cli_npz;

/* With `compress` the members are deflated. */
cli_npz *cli_npz_begin(FILE *out, bool compress);
/* Begins the member <name>.npy; false for a dtype that .npy has no name for. */
bool cli_npz_array(cli_npz *npz, const char *name, esk_dtype dtype, const uint64_t *shape, uint32_t rank);
/* The next bytes of its elements. */
void cli_npz_write(cli_npz *npz, const void *data, size_t size);
/* Writes the directory and frees. The stream's error flag tells whether all arrived. */
void cli_npz_end(cli_npz *npz);
/* Frees. */
void cli_npz_discard(cli_npz *npz);

#endif
