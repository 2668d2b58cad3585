/* What a reader sees of its run, as a whole. */
#ifndef ESK_STORE_VIEW_H
#define ESK_STORE_VIEW_H

#include "store/internal.h"

typedef struct esk_view {
	esk_reader *reader;
	esk_reader_segment *segments;
	size_t segment_count;
	esk_dataset **datasets; /* those that the reader knows, then new ones */
	esk_parts *parts;       /* of each of them; none where the run does not have it any more */
	size_t dataset_count;
	size_t known_count;
	esk_parts *alone_parts; /* of the reader's */
	size_t alone_count;
	char *metadata;
	char *attributes;
} esk_view;

/* Opens the run's files, but those that the reader has open and that are as they were, and lists what is in
 * them. The reader is not changed, nor may it be meanwhile. ESK_EBUSY, ESK_ENOTFOUND where a commit or a
 * rotation came between. */
esk_status esk_view_make(esk_reader *reader, esk_view *ret_view, esk_error *err);
/* Makes the view what the reader sees, and the view what it saw. Metadata and attributes only
 * `with_metadata`: they are borrowed. Waits for nothing. */
void esk_view_exchange(esk_reader *reader, esk_view *view, bool with_metadata);
void esk_view_clear(esk_view *view);
/* Looks for the dataset in the reader's segments, the newest first: of an item, a text. *ret_dataset is to be
 * added to reader->alone. Nobody may exchange views meanwhile. ESK_ENOTFOUND; ESK_EBUSY where a commit came
 * between. */
esk_status esk_view_find_alone(
	esk_reader *reader, const char *path, esk_dataset **ret_dataset, esk_error *err);

#endif
