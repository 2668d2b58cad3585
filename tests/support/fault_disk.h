/* The disk behind the fault-injecting operating system: what is on it, what is only in the page cache, and
 * what a power cut leaves. Used by fault_os.c alone; the caller holds fault->lock. May include: base, os.
 *
 *     names: live --> node <-- durable       node: base image + changes since the last synchronisation
 *             ^                   ^
 *             +--- name changes --+          sync empties a node's changes into its base,
 *                since sync_dir              sync_dir empties a directory's name changes into `durable` */
#ifndef ESK_TESTS_FAULT_DISK_H
#define ESK_TESTS_FAULT_DISK_H

#include "support/fault_os.h"
#include <pthread.h>
#include <sys/stat.h>

#define MAX_FDS 4096

typedef struct change {
	bool truncation; /* to `offset`; else a write of `size` bytes at `offset` */
	uint64_t offset;
	size_t size;
	uint8_t *data;
} change;

typedef struct node {
	dev_t dev;
	ino_t ino;
	bool directory;
	unsigned fds;
	uint8_t *base;
	size_t base_size;
	size_t base_capacity;
	change *changes;
	size_t change_count;
	size_t change_capacity;
	char *aside; /* while rebooting: where the file waits for its name */
} node;

typedef struct name {
	char *path;
	node *node;
} name;

typedef struct names {
	name *list;
	size_t count;
} names;

typedef enum { NAME_MADE, NAME_RENAMED, NAME_REMOVED } name_kind;
typedef struct name_change {
	name_kind kind;
	char *path; /* the new one of a rename */
	char *from; /* of a rename */
	node *node;
} name_change;

struct esk_fault {
	esk_os os;
	pthread_mutex_t lock;
	uint64_t random;
	uint64_t boot;
	uint64_t calls;
	uint64_t fail_at;
	int fail_errno;
	bool fail_sticky;
	uint64_t cut_at;
	uint32_t hiccups;
	uint64_t space;
	bool cut;
	node **nodes;
	size_t node_count;
	names live;
	names durable;
	name_change *name_changes;
	size_t name_change_count;
	node *fds[MAX_FDS];
	char **volatiles;
	size_t volatile_count;
};

/* Memory for tests: aborts when there is none. */
void *esk_fault_grow(void *memory, size_t bytes);
char *esk_fault_copy_text(const char *text);
uint64_t esk_fault_draw(esk_fault *fault);
bool esk_fault_coin(esk_fault *fault);
/* To be freed. canonical: one spelling per file, the parent's real path and the last component. */
char *esk_fault_parent_of(const char *path);
char *esk_fault_canonical(const char *path);

name *esk_fault_names_find(names *all, const char *path);
void esk_fault_names_set(names *all, const char *path, node *target);
void esk_fault_names_apply(names *all, const name_change *made);
void esk_fault_name_change_free(name_change *made);
/* The live names changed, and will stay so once the directory is synchronised. */
void esk_fault_name_changed(
	esk_fault *fault, name_kind kind, const char *path, const char *from, node *target);

node *esk_fault_node_new(esk_fault *fault);
bool esk_fault_node_is_alive(esk_fault *fault, const node *n);
node *esk_fault_node_of(esk_fault *fault, int fd);
/* What the file held before the double first saw it counts as durable. */
void esk_fault_node_load(node *n, int fd);
/* A write, or a truncation to `offset`, that is not synchronised yet. */
void esk_fault_node_changed(node *n, bool truncation, uint64_t offset, const void *data, size_t size);
void esk_fault_base_apply(node *n, const change *c);
void esk_fault_changes_clear(node *n);
/* Some of the changes are on the disk, by chance; the others are lost. */
void esk_fault_changes_settle(esk_fault *fault, node *n);

/* Puts in place what survives a power cut, and detaches every descriptor. */
void esk_fault_restart(esk_fault *fault);
/* Nothing is known any more: what files hold now counts as durable when they are seen again. */
void esk_fault_forget(esk_fault *fault);

#endif
