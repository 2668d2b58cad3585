/* Pages of a file kept in memory, found by page number.
 *
 * An open-addressing table of indices into slabs of pages: nothing is allocated per write once an overlay has
 * been as large as it gets. Not thread-safe: journal.c says who may touch which overlay when. May include:
 * base. */
#ifndef ESK_JOURNAL_OVERLAY_H
#define ESK_JOURNAL_OVERLAY_H

#include "base/base.h"

#define ESK_PAGE_BYTES 4096u

typedef struct esk_overlay_page {
	uint64_t number; /* offset in the file / ESK_PAGE_BYTES */
	uint32_t length; /* the first `length` bytes are valid; the file has the rest */
	uint32_t reserved;
	uint8_t data[ESK_PAGE_BYTES];
} esk_overlay_page;

typedef struct esk_overlay {
	esk_overlay_page **slabs;
	esk_overlay_page **sorted; /* made by esk_overlay_sort */
	uint32_t *table;           /* page index + 1; 0: free */
	uint64_t top;              /* end of the page that reaches furthest */
	uint32_t slab_count;
	uint32_t page_count;
	uint32_t table_bits; /* the table has 1 << table_bits places; 0: no table yet */
	uint32_t sorted_capacity;
} esk_overlay;

/* NULL where there is none. Borrowed until reset or free. */
esk_overlay_page *esk_overlay_find(const esk_overlay *overlay, uint64_t number);
/* Adds page `number`, which is not there, with undefined bytes. NULL: no memory. */
esk_overlay_page *esk_overlay_add(esk_overlay *overlay, uint64_t number, uint32_t length);
/* Fills overlay->sorted with the pages in ascending order; false: no memory. */
bool esk_overlay_sort(esk_overlay *overlay);
/* Takes away what lies at or beyond `end`. */
void esk_overlay_clip(esk_overlay *overlay, uint64_t end);
/* Forgets the pages and keeps a bounded part of the memory for the next ones. */
void esk_overlay_reset(esk_overlay *overlay);
/* Frees what the overlay holds, not the overlay itself. */
void esk_overlay_free(esk_overlay *overlay);

#endif
