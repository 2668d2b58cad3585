/* An operating system that fails on purpose: see fault_os.h. May include: base, os.
 *
 *     names: live ──▶ node ◀── durable       node: base image + operations since the last synchronisation
 *             ▲                   ▲
 *             └─ name operations ─┘           sync empties a node's operations into its base,
 *                since sync_dir               sync_dir empties a directory's name operations into `durable`
 */
#include "support/fault_os.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR_BYTES 512u
#define MAX_FDS 4096
#define MAX_VOLATILE 16

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
	char *volatiles[MAX_VOLATILE];
	size_t volatile_count;
};

/* ---- helpers ---- */

static void *grow(void *memory, size_t bytes)
{
	void *grown = realloc(memory, bytes == 0 ? 1 : bytes);
	if (grown == NULL)
		abort();
	return grown;
}

static char *copy_text(const char *text)
{
	char *copy = strdup(text);
	if (copy == NULL)
		abort();
	return copy;
}

/* splitmix64 */
static uint64_t draw(esk_fault *fault)
{
	uint64_t z = fault->random += UINT64_C(0x9E3779B97F4A7C15);
	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

static bool coin(esk_fault *fault)
{
	return draw(fault) & 1;
}

static char *parent_of(const char *path)
{
	char *parent = copy_text(path);
	char *slash = strrchr(parent, '/');
	if (slash == NULL)
		strcpy(parent, ".");
	else
		slash[slash == parent ? 1 : 0] = '\0';
	return parent;
}

/* One spelling per file: the parent's real path and the last component. */
static char *canonical(const char *path)
{
	if (strchr(path, '/') == NULL) {
		char dotted[4200];
		snprintf(dotted, sizeof(dotted), "./%s", path);
		return canonical(dotted);
	}
	char *parent = parent_of(path);
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
	if (strncmp(path, "/dev/shm/", 9) == 0)
		return true;
	for (size_t i = 0; i < fault->volatile_count; i++)
		if (strncmp(path, fault->volatiles[i], strlen(fault->volatiles[i])) == 0)
			return true;
	return false;
}

/* ---- names ---- */

static name *names_find(names *all, const char *path)
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
	name *found = names_find(all, path);
	if (found == NULL)
		return;
	free(found->path);
	*found = all->list[--all->count];
}

static void names_set(names *all, const char *path, node *target)
{
	names_remove(all, path);
	all->list = grow(all->list, (all->count + 1) * sizeof(name));
	all->list[all->count++] = (name){.path = copy_text(path), .node = target};
}

static void names_free(names *all)
{
	for (size_t i = 0; i < all->count; i++)
		free(all->list[i].path);
	free(all->list);
	*all = (names){0};
}

static void names_apply(names *all, const name_change *made)
{
	if (made->kind == NAME_REMOVED)
		names_remove(all, made->path);
	if (made->kind == NAME_RENAMED)
		names_remove(all, made->from);
	if (made->kind != NAME_REMOVED)
		names_set(all, made->path, made->node);
}

static void name_changed(esk_fault *fault, name_kind kind, const char *path, const char *from, node *target)
{
	fault->name_changes = grow(fault->name_changes, (fault->name_change_count + 1) * sizeof(name_change));
	fault->name_changes[fault->name_change_count++] = (name_change){.kind = kind,
		.path = copy_text(path),
		.from = from == NULL ? NULL : copy_text(from),
		.node = target};
	names_apply(&fault->live, &fault->name_changes[fault->name_change_count - 1]);
}

static void name_change_free(name_change *made)
{
	free(made->path);
	free(made->from);
}

/* ---- nodes ---- */

static void base_resize(node *n, size_t size)
{
	if (size > n->base_capacity) {
		n->base_capacity = size + size / 2;
		n->base = grow(n->base, n->base_capacity);
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

static void base_apply(node *n, const change *c)
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
		if (coin(fault))
			base_write(n, c->offset + done, c->data + done, piece);
		done += piece;
	}
}

static void changes_clear(node *n)
{
	for (size_t i = 0; i < n->change_count; i++)
		free(n->changes[i].data);
	n->change_count = 0;
}

/* What of the changes since the last synchronisation is on the disk. */
static void changes_settle_by_chance(esk_fault *fault, node *n)
{
	enum { ALL, NONE, EACH, SECTORS, PREFIX, WAYS } way = draw(fault) % WAYS;
	size_t whole = way == ALL ? n->change_count : 0;
	if (way == PREFIX && n->change_count > 0)
		whole = (size_t)(draw(fault) % n->change_count);
	for (size_t i = 0; i < n->change_count; i++) {
		const change *c = &n->changes[i];
		bool torn = !c->truncation && (way == SECTORS || (way == PREFIX && i == whole));
		if (torn)
			base_apply_torn(fault, n, c);
		else if (i < whole || ((way == EACH || way == SECTORS) && coin(fault)))
			base_apply(n, c);
	}
	changes_clear(n);
}

static void node_changed(node *n, bool truncation, uint64_t offset, const void *data, size_t size)
{
	if (n->change_count == n->change_capacity) {
		n->change_capacity = n->change_capacity == 0 ? 16 : n->change_capacity * 2;
		n->changes = grow(n->changes, n->change_capacity * sizeof(change));
	}
	change c = {.truncation = truncation, .offset = offset, .size = size};
	if (size > 0) {
		c.data = grow(NULL, size);
		memcpy(c.data, data, size);
	}
	n->changes[n->change_count++] = c;
}

static node *node_new(esk_fault *fault)
{
	node *n = grow(NULL, sizeof(*n));
	*n = (node){0};
	fault->nodes = grow(fault->nodes, (fault->node_count + 1) * sizeof(node *));
	fault->nodes[fault->node_count++] = n;
	return n;
}

static void node_free(node *n)
{
	changes_clear(n);
	free(n->changes);
	free(n->base);
	free(n->aside);
	free(n);
}

static bool node_is_alive(esk_fault *fault, const node *n)
{
	return n->fds > 0 || names_find_node(&fault->live, n) != NULL;
}

/* What the file held before the double first saw it counts as durable. */
static void node_load(node *n, int fd)
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

static node *node_of(esk_fault *fault, int fd)
{
	return fd >= 0 && fd < MAX_FDS ? fault->fds[fd] : NULL;
}

/* ---- faults ---- */

/* What this call meets: 0, or -errno. *ret_cut: the power fails during it. */
static int step(esk_fault *fault, bool *ret_cut)
{
	*ret_cut = false;
	if (fault->cut)
		return -EIO;
	fault->calls++;
	if (fault->calls == fault->cut_at) {
		fault->cut = true;
		*ret_cut = true;
		return -EIO;
	}
	if (fault->fail_at != 0 &&
		(fault->calls == fault->fail_at || (fault->fail_sticky && fault->calls > fault->fail_at)))
		return -fault->fail_errno;
	return 0;
}

/* For calls that do nothing when they fail. */
static int step_plain(esk_fault *fault)
{
	bool cut;
	return step(fault, &cut);
}

/* How many of `size` bytes a read or write gets to, or -EINTR. */
static ssize_t hiccup(esk_fault *fault, size_t size)
{
	if (size == 0 || fault->hiccups == 0 || draw(fault) % 100 >= fault->hiccups)
		return (ssize_t)size;
	return coin(fault) ? -EINTR : (ssize_t)(1 + draw(fault) % size);
}

/* ---- the table ---- */

static esk_fault *locked(const esk_os *os)
{
	esk_fault *fault = os->self;
	pthread_mutex_lock(&fault->lock);
	return fault;
}

static void unlock(esk_fault *fault)
{
	pthread_mutex_unlock(&fault->lock);
}

static node *node_at(esk_fault *fault, const struct stat *st)
{
	for (size_t i = 0; i < fault->node_count; i++) {
		node *n = fault->nodes[i];
		if (n->dev == st->st_dev && n->ino == st->st_ino && node_is_alive(fault, n))
			return n;
	}
	return NULL;
}

static void track(esk_fault *fault, int fd, const char *path, bool made)
{
	struct stat st;
	if (fd >= MAX_FDS || fstat(fd, &st) != 0)
		abort();
	if (!S_ISREG(st.st_mode))
		return;
	node *n = made ? NULL : node_at(fault, &st);
	if (n == NULL) {
		n = node_new(fault);
		n->dev = st.st_dev;
		n->ino = st.st_ino;
		if (made) {
			name_changed(fault, NAME_MADE, path, NULL, n);
		} else {
			node_load(n, fd);
			names_set(&fault->live, path, n);
			names_set(&fault->durable, path, n);
		}
	}
	fault->fds[fd] = n;
	n->fds++;
}

static int fault_open(const esk_os *os, const char *path, int flags, mode_t mode)
{
	esk_fault *fault = locked(os);
	bool cut;
	int fd = step(fault, &cut);
	if (fd == 0 || (cut && (flags & O_CREAT) != 0)) {
		char *whole = canonical(path);
		bool made = access(whole, F_OK) != 0;
		/* What the file held is taken before it is cut. */
		int opened = open(whole, (flags & ~O_TRUNC) | O_CLOEXEC, mode);
		int errnum = errno;
		if (opened >= 0) {
			track(fault, opened, whole, made);
			node *n = fault->fds[opened];
			if (n != NULL && (flags & O_TRUNC) != 0 && ftruncate(opened, 0) == 0)
				node_changed(n, true, 0, NULL, 0);
			if (cut) {
				if (n != NULL)
					n->fds--;
				fault->fds[opened] = NULL;
				close(opened);
			}
		}
		if (!cut)
			fd = opened >= 0 ? opened : -errnum;
		free(whole);
	}
	unlock(fault);
	return fd;
}

static int fault_close(const esk_os *os, int fd)
{
	esk_fault *fault = locked(os);
	node *n = node_of(fault, fd);
	if (n != NULL) {
		n->fds--;
		fault->fds[fd] = NULL;
	}
	int status = close(fd) < 0 ? -errno : 0;
	unlock(fault);
	return status;
}

static ssize_t fault_pread(const esk_os *os, int fd, void *buf, size_t size, uint64_t offset)
{
	esk_fault *fault = locked(os);
	ssize_t got = step_plain(fault);
	if (got == 0)
		got = hiccup(fault, size);
	if (got > 0) {
		got = pread(fd, buf, (size_t)got, (off_t)offset);
		got = got < 0 ? -errno : got;
	}
	unlock(fault);
	return got;
}

/* Bytes of a write that the space left allows; what replaces bytes of the file costs nothing. */
static ssize_t take_space(esk_fault *fault, int fd, size_t size, uint64_t offset)
{
	struct stat st;
	if (fault->space == UINT64_MAX || fstat(fd, &st) != 0)
		return (ssize_t)size;
	uint64_t file_end = (uint64_t)st.st_size;
	uint64_t grown = offset + size > file_end ? offset + size - esk_max_u64(offset, file_end) : 0;
	if (grown > fault->space) {
		uint64_t missing = grown - fault->space;
		grown = fault->space;
		size -= (size_t)missing;
	}
	fault->space -= grown;
	return size == 0 ? -ENOSPC : (ssize_t)size;
}

static ssize_t write_through(esk_fault *fault, int fd, const void *buf, size_t size, uint64_t offset)
{
	ssize_t put = pwrite(fd, buf, size, (off_t)offset);
	if (put < 0)
		return -errno;
	node *n = node_of(fault, fd);
	if (n != NULL)
		node_changed(n, false, offset, buf, (size_t)put);
	return put;
}

static ssize_t fault_pwrite(const esk_os *os, int fd, const void *buf, size_t size, uint64_t offset)
{
	esk_fault *fault = locked(os);
	bool cut;
	ssize_t put = step(fault, &cut);
	if (cut) {
		/* Some of it may have reached the page cache, and so the disk. */
		write_through(fault, fd, buf, size, offset);
	} else if (put < 0 && !fault->cut && size > 1 && !fault->fail_sticky && coin(fault)) {
		/* Write on until the error: a short count now, the error for the rest. */
		put = write_through(fault, fd, buf, 1 + (size_t)(draw(fault) % (size - 1)), offset);
		fault->fail_at++;
	} else if (put == 0) {
		put = hiccup(fault, size);
		if (put > 0)
			put = take_space(fault, fd, (size_t)put, offset);
		if (put > 0)
			put = write_through(fault, fd, buf, (size_t)put, offset);
	}
	unlock(fault);
	return put;
}

static int fault_truncate(const esk_os *os, int fd, uint64_t size)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 && ftruncate(fd, (off_t)size) < 0)
		status = -errno;
	node *n = node_of(fault, fd);
	if (n != NULL && (status == 0 || cut))
		node_changed(n, true, size, NULL, 0);
	unlock(fault);
	return status;
}

static int fault_sync(const esk_os *os, int fd)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	node *n = node_of(fault, fd);
	if (n != NULL && status == 0) {
		for (size_t i = 0; i < n->change_count; i++)
			base_apply(n, &n->changes[i]);
		changes_clear(n);
	} else if (n != NULL && !fault->cut) {
		changes_settle_by_chance(fault, n);
	}
	unlock(fault);
	return status;
}

static int fault_size(const esk_os *os, int fd, uint64_t *ret_size)
{
	esk_fault *fault = locked(os);
	struct stat st;
	int status = step_plain(fault);
	if (status == 0)
		status = fstat(fd, &st) < 0 ? -errno : 0;
	if (status == 0)
		*ret_size = (uint64_t)st.st_size;
	unlock(fault);
	return status;
}

static bool is_in_directory(const char *path, const char *directory)
{
	char *parent = parent_of(path);
	bool same = strcmp(parent, directory) == 0;
	free(parent);
	return same;
}

static int fault_sync_dir(const esk_os *os, const char *path)
{
	esk_fault *fault = locked(os);
	int status = step_plain(fault);
	char *real = realpath(path, NULL);
	if (status == 0 && real == NULL)
		status = -errno;
	if (status == 0) {
		size_t kept = 0;
		for (size_t i = 0; i < fault->name_change_count; i++) {
			name_change *made = &fault->name_changes[i];
			if (is_in_directory(made->path, real)) {
				names_apply(&fault->durable, made);
				name_change_free(made);
			} else {
				fault->name_changes[kept++] = *made;
			}
		}
		fault->name_change_count = kept;
	}
	free(real);
	unlock(fault);
	return status;
}

/* Renames and removals reach files that were never opened through the table: they become known here. */
static node *node_named(esk_fault *fault, const char *path)
{
	name *found = names_find(&fault->live, path);
	if (found != NULL)
		return found->node;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return NULL;
	node *n = node_new(fault);
	n->dev = st.st_dev;
	n->ino = st.st_ino;
	node_load(n, fd);
	close(fd);
	names_set(&fault->live, path, n);
	names_set(&fault->durable, path, n);
	return n;
}

static int fault_rename(const esk_os *os, const char *from, const char *to)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 || cut) {
		char *whole_from = canonical(from);
		char *whole_to = canonical(to);
		node *n = node_named(fault, whole_from);
		if (n != NULL)
			node_named(fault, whole_to);
		int done = rename(whole_from, whole_to) < 0 ? -errno : 0;
		if (done == 0 && n != NULL)
			name_changed(fault, NAME_RENAMED, whole_to, whole_from, n);
		status = cut ? status : done;
		free(whole_from);
		free(whole_to);
	}
	unlock(fault);
	return status;
}

static int fault_unlink(const esk_os *os, const char *path)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 || cut) {
		char *whole = canonical(path);
		node *n = node_named(fault, whole);
		int done = unlink(whole) < 0 ? -errno : 0;
		if (done == 0 && n != NULL)
			name_changed(fault, NAME_REMOVED, whole, NULL, n);
		status = cut ? status : done;
		free(whole);
	}
	unlock(fault);
	return status;
}

static int fault_mkdir(const esk_os *os, const char *path, mode_t mode)
{
	esk_fault *fault = locked(os);
	bool cut;
	int status = step(fault, &cut);
	if (status == 0 || cut) {
		char *whole = canonical(path);
		int done = mkdir(whole, mode) < 0 ? -errno : 0;
		if (done == 0) {
			node *n = node_new(fault);
			n->directory = true;
			name_changed(fault, NAME_MADE, whole, NULL, n);
		}
		status = cut ? status : done;
		free(whole);
	}
	unlock(fault);
	return status;
}

static int fault_lock(const esk_os *os, int fd)
{
	esk_fault *fault = locked(os);
	int status = fault->cut ? -EIO : 0;
	if (status == 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		status = -errno;
	unlock(fault);
	return status;
}

static uint64_t fault_boot_id(const esk_os *os)
{
	esk_fault *fault = locked(os);
	uint64_t boot = fault->boot;
	unlock(fault);
	return boot;
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
	enum { ALL, NONE, EACH, WAYS } way = draw(fault) % WAYS;
	for (size_t i = 0; i < fault->name_change_count; i++) {
		if (way == ALL || (way == EACH && coin(fault)))
			names_apply(&fault->durable, &fault->name_changes[i]);
		name_change_free(&fault->name_changes[i]);
	}
	fault->name_change_count = 0;
}

static void put_image(const node *n, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return; /* its directory did not survive */
	size_t done = 0;
	while (done < n->base_size) {
		ssize_t put = pwrite(fd, n->base + done, n->base_size - done, (off_t)done);
		if (put <= 0)
			abort();
		done += (size_t)put;
	}
	close(fd);
}

/* Moves every file whose name does not survive out of the way, under a name from which it may come back. */
static void set_aside(esk_fault *fault)
{
	for (size_t i = 0; i < fault->live.count; i++) {
		const name *l = &fault->live.list[i];
		const name *d = names_find(&fault->durable, l->path);
		if (l->node->directory || (d != NULL && d->node == l->node))
			continue;
		if (asprintf(&l->node->aside, "%s.aside-%zu", l->path, i) < 0 ||
			rename(l->path, l->node->aside) != 0)
			abort();
	}
}

static void put_in_place(esk_fault *fault)
{
	for (size_t i = 0; i < fault->live.count; i++) {
		const name *l = &fault->live.list[i];
		if (l->node->directory && names_find(&fault->durable, l->path) == NULL)
			remove_tree(l->path);
	}
	for (size_t i = 0; i < fault->durable.count; i++) {
		const name *d = &fault->durable.list[i];
		if (d->node->directory)
			continue;
		if (d->node->aside != NULL && rename(d->node->aside, d->path) == 0) {
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
}

static void forget_everything(esk_fault *fault)
{
	for (size_t i = 0; i < fault->node_count; i++)
		node_free(fault->nodes[i]);
	free(fault->nodes);
	fault->nodes = NULL;
	fault->node_count = 0;
	for (size_t i = 0; i < fault->name_change_count; i++)
		name_change_free(&fault->name_changes[i]);
	free(fault->name_changes);
	fault->name_changes = NULL;
	fault->name_change_count = 0;
	names_free(&fault->live);
	names_free(&fault->durable);
	memset(fault->fds, 0, sizeof(fault->fds));
}

static void clear_plan(esk_fault *fault)
{
	fault->calls = 0;
	fault->fail_at = 0;
	fault->fail_sticky = false;
	fault->cut_at = 0;
	fault->hiccups = 0;
	fault->space = UINT64_MAX;
}

void esk_fault_cut(esk_fault *fault)
{
	pthread_mutex_lock(&fault->lock);
	fault->cut = true;
	pthread_mutex_unlock(&fault->lock);
}

bool esk_fault_is_cut(const esk_fault *fault)
{
	return fault->cut;
}

void esk_fault_reboot(esk_fault *fault)
{
	pthread_mutex_lock(&fault->lock);
	detach_descriptors(fault);
	settle_names(fault);
	for (size_t i = 0; i < fault->node_count; i++)
		changes_settle_by_chance(fault, fault->nodes[i]);
	set_aside(fault);
	put_in_place(fault);
	forget_everything(fault);
	clear_plan(fault);
	fault->cut = false;
	fault->boot++;
	pthread_mutex_unlock(&fault->lock);
}

/* ---- making and planning ---- */

esk_fault *esk_fault_new(uint64_t seed)
{
	esk_fault *fault = calloc(1, sizeof(*fault));
	if (fault == NULL || pthread_mutex_init(&fault->lock, NULL) != 0)
		abort();
	fault->os = (esk_os){.self = fault,
		.open = fault_open,
		.close = fault_close,
		.pread = fault_pread,
		.pwrite = fault_pwrite,
		.truncate = fault_truncate,
		.sync = fault_sync,
		.size = fault_size,
		.sync_dir = fault_sync_dir,
		.rename = fault_rename,
		.unlink = fault_unlink,
		.mkdir = fault_mkdir,
		.lock = fault_lock,
		.boot_id = fault_boot_id};
	fault->random = seed;
	fault->boot = seed | 1;
	clear_plan(fault);
	return fault;
}

void esk_fault_free(esk_fault *fault)
{
	if (fault == NULL)
		return;
	forget_everything(fault);
	for (size_t i = 0; i < fault->volatile_count; i++)
		free(fault->volatiles[i]);
	pthread_mutex_destroy(&fault->lock);
	free(fault);
}

const esk_os *esk_fault_os(esk_fault *fault)
{
	return &fault->os;
}

uint64_t esk_fault_calls(const esk_fault *fault)
{
	return fault->calls;
}

void esk_fault_fail_at(esk_fault *fault, uint64_t call, int errnum, bool sticky)
{
	pthread_mutex_lock(&fault->lock);
	fault->fail_at = call;
	fault->fail_errno = errnum;
	fault->fail_sticky = sticky;
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_cut_at(esk_fault *fault, uint64_t call)
{
	pthread_mutex_lock(&fault->lock);
	fault->cut_at = call;
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_set_hiccups(esk_fault *fault, uint32_t percent)
{
	pthread_mutex_lock(&fault->lock);
	fault->hiccups = percent;
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_set_space(esk_fault *fault, uint64_t bytes)
{
	pthread_mutex_lock(&fault->lock);
	fault->space = bytes;
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_clear(esk_fault *fault)
{
	pthread_mutex_lock(&fault->lock);
	clear_plan(fault);
	pthread_mutex_unlock(&fault->lock);
}

void esk_fault_set_volatile(esk_fault *fault, const char *prefix)
{
	pthread_mutex_lock(&fault->lock);
	if (fault->volatile_count == MAX_VOLATILE)
		abort();
	fault->volatiles[fault->volatile_count++] = copy_text(prefix);
	pthread_mutex_unlock(&fault->lock);
}
