/* The disk behind the fault-injecting operating system: see fault_disk.h. May include: base, os. */
#include "support/fault_disk.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR_BYTES 512u

void *esk_fault_grow(void *memory, size_t bytes)
{
	void *grown = realloc(memory, bytes == 0 ? 1 : bytes);
	if (grown == NULL)
		abort();
	return grown;
}

char *esk_fault_copy_text(const char *text)
{
	char *copy = strdup(text);
	if (copy == NULL)
		abort();
	return copy;
}

/* splitmix64 */
uint64_t esk_fault_draw(esk_fault *fault)
{
	uint64_t z = fault->random += UINT64_C(0x9E3779B97F4A7C15);
	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

bool esk_fault_coin(esk_fault *fault)
{
	return esk_fault_draw(fault) & 1;
}

char *esk_fault_parent_of(const char *path)
{
	char *parent = esk_fault_copy_text(path);
	char *slash = strrchr(parent, '/');
	if (slash == NULL)
		strcpy(parent, ".");
	else
		slash[slash == parent ? 1 : 0] = '\0';
	return parent;
}

/* One spelling per file: the parent's real path and the last component. */
char *esk_fault_canonical(const char *path)
{
	if (strchr(path, '/') == NULL) {
		char dotted[4200];
		snprintf(dotted, sizeof(dotted), "./%s", path);
		return esk_fault_canonical(dotted);
	}
	char *parent = esk_fault_parent_of(path);
	char *real = realpath(parent, NULL);
	char *whole = NULL;
	if (asprintf(&whole, "%s/%s", real == NULL ? parent : real, strrchr(path, '/') + 1) < 0)
		abort();
	free(parent);
	free(real);
	return whole;
}

static bool is_volatile(const esk_fault *fault, const char *path)
{
	for (size_t i = 0; i < fault->volatile_count; i++)
		if (strncmp(path, fault->volatiles[i], strlen(fault->volatiles[i])) == 0)
			return true;
	return false;
}

/* ---- names ---- */

name *esk_fault_names_find(names *all, const char *path)
{
	for (size_t i = 0; i < all->count; i++)
		if (strcmp(all->list[i].path, path) == 0)
			return &all->list[i];
	return NULL;
}

static name *names_find_node(names *all, const node *wanted)
{
	for (size_t i = 0; i < all->count; i++)
		if (all->list[i].node == wanted)
			return &all->list[i];
	return NULL;
}

static void names_remove(names *all, const char *path)
{
	name *found = esk_fault_names_find(all, path);
	if (found == NULL)
		return;
	free(found->path);
	*found = all->list[--all->count];
}

void esk_fault_names_set(names *all, const char *path, node *target)
{
	names_remove(all, path);
	all->list = esk_fault_grow(all->list, (all->count + 1) * sizeof(name));
	all->list[all->count++] = (name){.path = esk_fault_copy_text(path), .node = target};
}

static void names_free(names *all)
{
	for (size_t i = 0; i < all->count; i++)
		free(all->list[i].path);
	free(all->list);
	*all = (names){0};
}

void esk_fault_names_apply(names *all, const name_change *made)
{
	if (made->kind == NAME_REMOVED)
		names_remove(all, made->path);
	if (made->kind == NAME_RENAMED)
		names_remove(all, made->from);
	if (made->kind != NAME_REMOVED)
		esk_fault_names_set(all, made->path, made->node);
}

void esk_fault_name_changed(
	esk_fault *fault, name_kind kind, const char *path, const char *from, node *target)
{
	fault->name_changes =
		esk_fault_grow(fault->name_changes, (fault->name_change_count + 1) * sizeof(name_change));
	fault->name_changes[fault->name_change_count++] = (name_change){.kind = kind,
		.path = esk_fault_copy_text(path),
		.from = from == NULL ? NULL : esk_fault_copy_text(from),
		.node = target};
	esk_fault_names_apply(&fault->live, &fault->name_changes[fault->name_change_count - 1]);
}

void esk_fault_name_change_free(name_change *made)
{
	free(made->path);
	free(made->from);
}

/* ---- nodes ---- */

static void base_resize(node *n, size_t size)
{
	if (size > n->base_capacity) {
		n->base_capacity = size + size / 2;
		n->base = esk_fault_grow(n->base, n->base_capacity);
	}
	if (size > n->base_size)
		memset(n->base + n->base_size, 0, size - n->base_size);
	n->base_size = size;
}

static void base_write(node *n, uint64_t offset, const uint8_t *data, size_t size)
{
	if (size == 0)
		return;
	if (offset + size > n->base_size)
		base_resize(n, (size_t)offset + size);
	memcpy(n->base + offset, data, size);
}

void esk_fault_base_apply(node *n, const change *c)
{
	if (c->truncation)
		base_resize(n, (size_t)c->offset);
	else
		base_write(n, c->offset, c->data, c->size);
}

/* Each sector of the write is on the disk or not. */
static void base_apply_torn(esk_fault *fault, node *n, const change *c)
{
	size_t done = 0;
	while (done < c->size) {
		size_t piece =
			(size_t)esk_min_u64(SECTOR_BYTES - (c->offset + done) % SECTOR_BYTES, c->size - done);
		if (esk_fault_coin(fault))
			base_write(n, c->offset + done, c->data + done, piece);
		done += piece;
	}
}

void esk_fault_changes_clear(node *n)
{
	for (size_t i = 0; i < n->change_count; i++)
		free(n->changes[i].data);
	n->change_count = 0;
}

/* What of the changes since the last synchronisation is on the disk. */
void esk_fault_changes_settle(esk_fault *fault, node *n)
{
	enum { ALL, NONE, EACH, SECTORS, PREFIX, WAYS } way = esk_fault_draw(fault) % WAYS;
	size_t whole = way == ALL ? n->change_count : 0;
	if (way == PREFIX && n->change_count > 0)
		whole = (size_t)(esk_fault_draw(fault) % n->change_count);
	for (size_t i = 0; i < n->change_count; i++) {
		const change *c = &n->changes[i];
		bool torn = !c->truncation && (way == SECTORS || (way == PREFIX && i == whole));
		if (torn)
			base_apply_torn(fault, n, c);
		else if (i < whole || ((way == EACH || way == SECTORS) && esk_fault_coin(fault)))
			esk_fault_base_apply(n, c);
	}
	esk_fault_changes_clear(n);
}

void esk_fault_node_changed(node *n, bool truncation, uint64_t offset, const void *data, size_t size)
{
	if (n->change_count == n->change_capacity) {
		n->change_capacity = n->change_capacity == 0 ? 16 : n->change_capacity * 2;
		n->changes = esk_fault_grow(n->changes, n->change_capacity * sizeof(change));
	}
	change c = {.truncation = truncation, .offset = offset, .size = size};
	if (size > 0) {
		c.data = esk_fault_grow(NULL, size);
		memcpy(c.data, data, size);
	}
	n->changes[n->change_count++] = c;
}

node *esk_fault_node_new(esk_fault *fault)
{
	node *n = esk_fault_grow(NULL, sizeof(*n));
	*n = (node){0};
	fault->nodes = esk_fault_grow(fault->nodes, (fault->node_count + 1) * sizeof(node *));
	fault->nodes[fault->node_count++] = n;
	return n;
}

static void node_free(node *n)
{
	esk_fault_changes_clear(n);
	free(n->changes);
	free(n->base);
	free(n->aside);
	free(n);
}

bool esk_fault_node_is_alive(esk_fault *fault, const node *n)
{
	return n->fds > 0 || names_find_node(&fault->live, n) != NULL;
}

/* What the file held before the double first saw it counts as durable. */
void esk_fault_node_load(node *n, int fd)
{
	struct stat st;
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int reader = open(path, O_RDONLY | O_CLOEXEC);
	if (reader < 0 || fstat(reader, &st) != 0)
		abort();
	base_resize(n, (size_t)st.st_size);
	size_t done = 0;
	while (done < n->base_size) {
		ssize_t got = pread(reader, n->base + done, n->base_size - done, (off_t)done);
		if (got <= 0)
			abort();
		done += (size_t)got;
	}
	close(reader);
}

node *esk_fault_node_of(esk_fault *fault, int fd)
{
	return fd >= 0 && fd < MAX_FDS ? fault->fds[fd] : NULL;
}

/* ---- power cut ---- */

static void remove_tree(const char *path)
{
	DIR *directory = opendir(path);
	if (directory == NULL) {
		unlink(path);
		return;
	}
	struct dirent *entry;
	while ((entry = readdir(directory)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		char *inner = NULL;
		if (asprintf(&inner, "%s/%s", path, entry->d_name) < 0)
			abort();
		remove_tree(inner);
		free(inner);
	}
	closedir(directory);
	rmdir(path);
}

/* Descriptors keep their numbers, so that whoever still holds one may close it, but lose file and lock. */
static void detach_descriptors(esk_fault *fault)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		abort();
	for (int fd = 0; fd < MAX_FDS; fd++)
		if (fault->fds[fd] != NULL) {
			dup3(null, fd, O_CLOEXEC);
			fault->fds[fd] = NULL;
		}
	close(null);
}

/* Names that survive: the durable ones, and each later change by chance. */
static void settle_names(esk_fault *fault)
{
	enum { ALL, NONE, EACH, WAYS } way = esk_fault_draw(fault) % WAYS;
	for (size_t i = 0; i < fault->name_change_count; i++) {
		if (way == ALL || (way == EACH && esk_fault_coin(fault)))
			esk_fault_names_apply(&fault->durable, &fault->name_changes[i]);
		esk_fault_name_change_free(&fault->name_changes[i]);
	}
	fault->name_change_count = 0;
}

static void put_image(const node *n, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return; /* its directory did not survive */
	size_t done = 0;
	while (done < n->base_size) {
		ssize_t put = pwrite(fd, n->base + done, n->base_size - done, (off_t)done);
		if (put <= 0)
			abort();
		done += (size_t)put;
	}
	if (ftruncate(fd, (off_t)n->base_size) != 0)
		abort();
	close(fd);
}

/* Moves every file whose name does not survive out of the way, under a name from which it may come back. */
static void set_aside(esk_fault *fault)
{
	for (size_t i = 0; i < fault->live.count; i++) {
		const name *l = &fault->live.list[i];
		const name *d = esk_fault_names_find(&fault->durable, l->path);
		if (l->node->directory || (d != NULL && d->node == l->node))
			continue;
		if (l->node->aside != NULL) { /* another of its names went there */
			unlink(l->path);
			continue;
		}
		if (asprintf(&l->node->aside, "%s.aside-%zu", l->path, i) < 0)
			abort();
		/* One that is not there was removed past the table. */
		if (rename(l->path, l->node->aside) != 0 && errno != ENOENT)
			abort();
	}
}

static void put_in_place(esk_fault *fault)
{
	for (size_t i = 0; i < fault->live.count; i++) {
		const name *l = &fault->live.list[i];
		if (l->node->directory && esk_fault_names_find(&fault->durable, l->path) == NULL)
			remove_tree(l->path);
	}
	for (size_t i = 0; i < fault->durable.count; i++) {
		const name *d = &fault->durable.list[i];
		if (d->node->directory)
			continue;
		const name *l = esk_fault_names_find(&fault->live, d->path);
		bool there = l != NULL && l->node == d->node;
		if (!there && d->node->aside != NULL && rename(d->node->aside, d->path) == 0) {
			free(d->node->aside);
			d->node->aside = NULL;
		}
		put_image(d->node, d->path);
		if (is_volatile(fault, d->path))
			unlink(d->path);
	}
	for (size_t i = 0; i < fault->node_count; i++)
		if (fault->nodes[i]->aside != NULL)
			unlink(fault->nodes[i]->aside);
	/* One that never went through the table has no other name than its prefix. */
	for (size_t i = 0; i < fault->volatile_count; i++)
		unlink(fault->volatiles[i]);
}

void esk_fault_forget(esk_fault *fault)
{
	for (size_t i = 0; i < fault->node_count; i++)
		node_free(fault->nodes[i]);
	free(fault->nodes);
	fault->nodes = NULL;
	fault->node_count = 0;
	for (size_t i = 0; i < fault->name_change_count; i++)
		esk_fault_name_change_free(&fault->name_changes[i]);
	free(fault->name_changes);
	fault->name_changes = NULL;
	fault->name_change_count = 0;
	names_free(&fault->live);
	names_free(&fault->durable);
	memset(fault->fds, 0, sizeof(fault->fds));
}

void esk_fault_restart(esk_fault *fault)
{
	detach_descriptors(fault);
	settle_names(fault);
	for (size_t i = 0; i < fault->node_count; i++)
		esk_fault_changes_settle(fault, fault->nodes[i]);
	set_aside(fault);
	put_in_place(fault);
	esk_fault_forget(fault);
}
