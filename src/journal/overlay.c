/* Pages of a file kept in memory: see overlay.h. May include: base. */
#include "journal/overlay.h"
#include <stdlib.h>
#include <string.h>

#define SLAB_PAGES 64u
/* 16 MiB stay with an overlay between commits: more than a commit of metadata ever holds, little beside the
 * ring. */
#define RETAINED_SLABS 64u
#define FIRST_TABLE_BITS 8u

static esk_overlay_page *page_at(const esk_overlay *overlay, uint32_t index)
{
	return &overlay->slabs[index / SLAB_PAGES][index % SLAB_PAGES];
}

/* Multiplying by 2^64 / golden ratio spreads neighbouring page numbers over the table; the top bits are the
 * best. */
static uint32_t place_of(uint64_t number, uint32_t bits)
{
	return (uint32_t)((number * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - bits));
}

esk_overlay_page *esk_overlay_find(const esk_overlay *overlay, uint64_t number)
{
	if (overlay->page_count == 0)
		return NULL;
	uint32_t mask = (1u << overlay->table_bits) - 1;
	uint32_t place = place_of(number, overlay->table_bits);
	while (overlay->table[place] != 0) {
		esk_overlay_page *page = page_at(overlay, overlay->table[place] - 1);
		if (page->number == number)
			return page;
		place = (place + 1) & mask;
	}
	return NULL;
}

static void table_put(uint32_t *table, uint32_t bits, uint64_t number, uint32_t index)
{
	uint32_t mask = (1u << bits) - 1;
	uint32_t place = place_of(number, bits);
	while (table[place] != 0)
		place = (place + 1) & mask;
	table[place] = index + 1;
}

/* Keeps the table at most half full, so that a search ends after a step or two. */
static bool table_make_room(esk_overlay *overlay)
{
	if (overlay->table_bits != 0 && overlay->page_count + 1 <= 1u << (overlay->table_bits - 1))
		return true;
	uint32_t bits = overlay->table_bits == 0 ? FIRST_TABLE_BITS : overlay->table_bits + 1;
	if (bits > 31)
		return false;
	uint32_t *table = calloc((size_t)1 << bits, sizeof(*table));
	if (table == NULL)
		return false;
	for (uint32_t i = 0; i < overlay->page_count; i++)
		table_put(table, bits, page_at(overlay, i)->number, i);
	free(overlay->table);
	overlay->table = table;
	overlay->table_bits = bits;
	return true;
}

static bool slabs_make_room(esk_overlay *overlay)
{
	if (overlay->page_count < overlay->slab_count * SLAB_PAGES)
		return true;
	size_t count = (size_t)overlay->slab_count + 1;
	esk_overlay_page **slabs = realloc(overlay->slabs, count * sizeof(*slabs));
	if (slabs == NULL)
		return false;
	overlay->slabs = slabs;
	slabs[overlay->slab_count] = malloc(SLAB_PAGES * sizeof(esk_overlay_page));
	if (slabs[overlay->slab_count] == NULL)
		return false;
	overlay->slab_count++;
	return true;
}

esk_overlay_page *esk_overlay_add(esk_overlay *overlay, uint64_t number, uint32_t length)
{
	if (!table_make_room(overlay) || !slabs_make_room(overlay))
		return NULL;
	uint32_t index = overlay->page_count++;
	esk_overlay_page *page = page_at(overlay, index);
	page->number = number;
	page->length = length;
	page->reserved = 0;
	table_put(overlay->table, overlay->table_bits, number, index);
	overlay->top = esk_max_u64(overlay->top, number * ESK_PAGE_BYTES + length);
	return page;
}

static int compare_pages(const void *a, const void *b)
{
	uint64_t x = (*(esk_overlay_page *const *)a)->number;
	uint64_t y = (*(esk_overlay_page *const *)b)->number;
	return (x > y) - (x < y);
}

bool esk_overlay_sort(esk_overlay *overlay)
{
	if (overlay->sorted_capacity < overlay->page_count) {
		free(overlay->sorted);
		overlay->sorted_capacity = 0;
		overlay->sorted = malloc(overlay->page_count * sizeof(esk_overlay_page *));
		if (overlay->sorted == NULL)
			return false;
		overlay->sorted_capacity = overlay->page_count;
	}
	for (uint32_t i = 0; i < overlay->page_count; i++)
		overlay->sorted[i] = page_at(overlay, i);
	if (overlay->page_count > 1)
		qsort(overlay->sorted, overlay->page_count, sizeof(esk_overlay_page *), compare_pages);
	return true;
}

void esk_overlay_clip(esk_overlay *overlay, uint64_t end)
{
	if (overlay->top <= end)
		return;
	for (uint32_t i = 0; i < overlay->page_count; i++) {
		esk_overlay_page *page = page_at(overlay, i);
		uint64_t start = page->number * ESK_PAGE_BYTES;
		page->length = start >= end ? 0 : (uint32_t)esk_min_u64(page->length, end - start);
	}
	overlay->top = end;
}

void esk_overlay_reset(esk_overlay *overlay)
{
	while (overlay->slab_count > RETAINED_SLABS)
		free(overlay->slabs[--overlay->slab_count]);
	if (overlay->table_bits != 0)
		memset(overlay->table, 0, sizeof(uint32_t) << overlay->table_bits);
	overlay->page_count = 0;
	overlay->top = 0;
}

void esk_overlay_free(esk_overlay *overlay)
{
	for (uint32_t i = 0; i < overlay->slab_count; i++)
		free(overlay->slabs[i]);
	free(overlay->slabs);
	free(overlay->sorted);
	free(overlay->table);
	*overlay = (esk_overlay){0};
}
