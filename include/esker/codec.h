/* Codecs by name.
 *
 * A codec spec is `codec[:level]` with any of `+shuffle`, `-shuffle`, `+fletcher32`, `-fletcher32` behind it:
 *
 *     none | gzip[:1-9] | lzf | szip | zstd[:1-22] | lz4 | blosc | bitshuffle
 *
 * The default is gzip:1 (every HDF5 build reads it); shuffle is on by itself where it helps (elements of two
 * or more bytes, and gzip, lzf, zstd or lz4). Stock HDF5 reads none and gzip, and lzf in h5py; szip needs an
 * HDF5 built with it; zstd, lz4, blosc and bitshuffle need a plugin (hdf5plugin in Python). */
#ifndef ESKER_CODEC_H
#define ESKER_CODEC_H

#include <esker/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Checks a codec spec without using it. Errors: ESK_EINVAL (the message lists what is known),
 * ESK_ERANGE for a level outside the codec's. Thread-safe. */
ESK_API esk_status esk_codec_check(const char *spec, esk_error *err);

/* What a stock HDF5 reader needs besides itself to read `spec`: "" for nothing, else e.g.
 * "the zstd plugin (filter 32015)". Static storage; "" for an unknown spec. Thread-safe. */
ESK_API const char *esk_codec_reader_needs(const char *spec);

#ifdef __cplusplus
}
#endif
#endif
