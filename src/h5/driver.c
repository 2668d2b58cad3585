/* The file driver: libhdf5's H5FD interface over a journalled file (esk_jfile).
 *
 * Everything that differs between the H5FD interfaces of libhdf5 1.10 to 2.x is in this file: from 1.13 on
 * the class declares its version and a number of its own, and the declarations moved to H5FDdevelop.h.
 * Callbacks that 1.14 added (vectors, selections, del, ctl) are optional; libhdf5 falls back to read and
 * write.
 *
 * Invariants
 *   1. Callbacks run under the lock of lock.c, since they run within libhdf5.
 *   2. A write that fails is reported by esk_jfile_status and not to libhdf5, which then closes its handles
 *      in peace. The jfile is failed from then on: nothing reaches the disk any more (driver_write).
 *   3. In a forked child, and after the owner let go, writes vanish and reads fail (usable).
 *   4. There is no cmp callback: two opened files are never the same to libhdf5, so a reader and a writer
 *      of one path in one process share no cache. There is no lock callback: writers exclude each other in
 *      the journal, and HDF5_USE_FILE_LOCKING has nothing to switch. */
#include "h5/h5_internal.h"

#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif
#include <stdlib.h>
#include <string.h>

/* One of the numbers that libhdf5 leaves to drivers that are not registered with its makers (256 to 511). */
#define DRIVER_VALUE 485
#define CACHE_FIRST_BYTES (1u << 20)
#define CACHE_MOST_BYTES (4u << 20)
#define MAX_ADDRESS ((haddr_t)INT64_MAX)

struct esk_h5_link {
	const esk_os *os;
	char *path;
	esk_jfile *jfile; /* NULL once the owner let go */
	uint64_t fork_count;
	uint64_t eoa;
	unsigned references;
	bool opened; /* the owner's file; other names are files that it refers to */
	bool writable;
	bool closing;
};

typedef struct driver_file {
	H5FD_t base; /* first: libhdf5's part */
	esk_h5_link *link;
	esk_jfile *other; /* a file that the owner's refers to (virtual datasets, external links), for
			     reading; else NULL */
	haddr_t eoa;
	haddr_t eof;
} driver_file;

static esk_error first_error; /* .code ESK_OK: none */

const esk_error *esk_h5_driver_error(void)
{
	return first_error.code != ESK_OK ? &first_error : NULL;
}

void esk_h5_driver_clear_error(void)
{
	first_error.code = ESK_OK;
}

static void keep_error(const esk_error *error)
{
	if (first_error.code == ESK_OK)
		first_error = *error;
}

/* ---- probing: where raw data would be read from, for read_locate.c, and where an index begins, for
 * read_stored.c. Under the lock, like everything here. ---- */

static struct {
	bool armed;
	bool caught;
	uint64_t address;
	uint64_t size;
} probe;

void esk_h5_driver_probe_begin(void)
{
	probe.armed = true;
	probe.caught = false;
}

bool esk_h5_driver_probe_end(uint64_t *ret_address, uint64_t *ret_size)
{
	probe.armed = false;
	*ret_address = probe.address;
	*ret_size = probe.size;
	return probe.caught;
}

static struct {
	bool armed;
	bool caught;
	uint64_t address;
} tree;

void esk_h5_driver_tree_begin(void)
{
	tree.armed = true;
	tree.caught = false;
}

bool esk_h5_driver_tree_end(uint64_t *ret_address)
{
	tree.armed = false;
	*ret_address = tree.address;
	return tree.caught;
}

/* ---- link ---- */

esk_h5_link *esk_h5_link_create(const esk_os *os, const char *path, esk_jfile *jfile)
{
	esk_h5_link *link = calloc(1, sizeof *link);
	if (!link)
		return NULL;
	link->path = strdup(path);
	if (!link->path) {
		free(link);
		return NULL;
	}
	link->os = os;
	link->jfile = jfile;
	link->fork_count = esk_os_fork_count();
	link->references = 1;
	return link;
}

static void link_drop(esk_h5_link *link)
{
	if (--link->references > 0)
		return;
	free(link->path);
	free(link);
}

void esk_h5_link_release(esk_h5_link *link)
{
	if (!link)
		return;
	link->jfile = NULL;
	link_drop(link);
}

void esk_h5_link_close_begins(esk_h5_link *link)
{
	link->closing = true;
}

uint64_t esk_h5_link_eoa(const esk_h5_link *link)
{
	return link->eoa;
}

/* The journalled file behind `file`, or NULL where it must not be touched: after a fork another thread may
 * have had its lock, which nobody releases in the child. */
static esk_jfile *usable(const driver_file *file)
{
	const esk_h5_link *link = file->link;
	if (link->fork_count != esk_os_fork_count())
		return NULL;
	return file->other ? file->other : link->jfile;
}

/* ---- callbacks ---- */

/* The driver's information in a property list is one pointer. */
static void *fapl_copy(const void *info)
{
	esk_h5_link **copy = malloc(sizeof *copy);
	if (copy)
		memcpy(copy, info, sizeof *copy);
	return copy;
}

/* For the files that this one refers to: libhdf5 opens them with its properties. */
static void *fapl_get(H5FD_t *base)
{
	return fapl_copy(&((driver_file *)base)->link);
}

static herr_t fapl_free(void *info)
{
	free(info);
	return 0;
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr)
{
	esk_h5_link *const *info = H5Pget_driver_info(fapl);
	esk_h5_link *link = info ? *info : NULL;
	driver_file *file;
	esk_error error;

	(void)maxaddr;
	if (!link || !link->jfile || !(file = calloc(1, sizeof *file)))
		return NULL;
	if (!link->opened && strcmp(name, link->path) == 0) {
		link->opened = true;
		link->writable = (flags & H5F_ACC_RDWR) != 0;
		file->eof = esk_jfile_end(link->jfile);
	} else if ((flags & H5F_ACC_RDWR) != 0 ||
		   esk_jfile_open(link->os, name, ESK_JFILE_READ, &file->other, NULL, &error) != ESK_OK) {
		/* libhdf5 tries several names for a file that another refers to: not found is no error of
		 * ours. */
		free(file);
		return NULL;
	} else {
		file->eof = esk_jfile_end(file->other);
	}
	file->link = link;
	link->references++;
	return &file->base;
}

static herr_t driver_close(H5FD_t *base)
{
	driver_file *file = (driver_file *)base;
	if (file->other && usable(file))
		esk_jfile_close(file->other, NULL);
	else
		esk_jfile_forget(file->other);
	link_drop(file->link);
	free(file);
	return 0;
}

/* Metadata are gathered into larger reads and writes for writers only: on damaged files the code in libhdf5
 * (1.10.8) that gathers reads copies out of bounds, where the driver would have refused the address. */
static herr_t driver_query(const H5FD_t *base, unsigned long *flags)
{
	const driver_file *file = (const driver_file *)base;
	if (!flags)
		return 0;
	*flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA;
	if (!file || (!file->other && file->link->writable))
		*flags |= H5FD_FEAT_ACCUMULATE_METADATA;
#ifdef H5FD_FEAT_DEFAULT_VFD_COMPATIBLE
	*flags |= H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
#endif
	return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *base, H5FD_mem_t type)
{
	(void)type;
	return ((const driver_file *)base)->eoa;
}

static herr_t driver_set_eoa(H5FD_t *base, H5FD_mem_t type, haddr_t address)
{
	driver_file *file = (driver_file *)base;
	(void)type;
	file->eoa = address;
	if (!file->other)
		file->link->eoa = address;
	return 0;
}

static haddr_t driver_get_eof(const H5FD_t *base, H5FD_mem_t type)
{
	(void)type;
	return ((const driver_file *)base)->eof;
}

static bool range_ok(haddr_t address, size_t size)
{
	return address <= MAX_ADDRESS && size <= MAX_ADDRESS - address;
}

static herr_t driver_read(
	H5FD_t *base, H5FD_mem_t type, hid_t dxpl, haddr_t address, size_t size, void *buffer)
{
	driver_file *file = (driver_file *)base;
	esk_jfile *jfile = usable(file);
	esk_error error;

	(void)dxpl;
	if (probe.armed && type == H5FD_MEM_DRAW) {
		probe.caught = true;
		probe.address = address;
		probe.size = size;
		return 0;
	}
	if (tree.armed && !tree.caught && type == H5FD_MEM_BTREE) {
		tree.caught = true;
		tree.address = address;
	}
	if (!jfile || !range_ok(address, size))
		return -1;
	if (esk_jfile_read(jfile, address, buffer, size, &error) != ESK_OK) {
		keep_error(&error);
		return -1;
	}
	return 0;
}

static bool is_there(esk_jfile *jfile, uint64_t address, const void *buffer, size_t size)
{
	unsigned char present[512]; /* a header takes about 100 bytes */
	return size <= sizeof present && esk_jfile_read(jfile, address, present, size, NULL) == ESK_OK &&
	       memcmp(present, buffer, size) == 0;
}

static herr_t driver_write(
	H5FD_t *base, H5FD_mem_t type, hid_t dxpl, haddr_t address, size_t size, const void *buffer)
{
	driver_file *file = (driver_file *)base;
	esk_jfile *jfile = usable(file);

	(void)type;
	(void)dxpl;
	if (file->other || !range_ok(address, size))
		return -1;
	if (jfile && !(file->link->closing && is_there(jfile, address, buffer, size)))
		esk_jfile_write(jfile, address, buffer, size, NULL); /* invariant 2 */
	if (address + size > file->eof)
		file->eof = address + size;
	return 0;
}

/* libhdf5 asks for a file that ends at its end of allocation. A commit makes it so; until then nothing is cut
 * off, since what is behind the end may be committed. */
static herr_t driver_truncate(H5FD_t *base, hid_t dxpl, hbool_t closing)
{
	driver_file *file = (driver_file *)base;
	(void)dxpl;
	(void)closing;
	if (!file->other && file->link->writable)
		file->eof = file->eoa;
	return 0;
}

static const H5FD_class_t driver_class = {
#if H5_VERSION_GE(1, 13, 0)
	.version = H5FD_CLASS_VERSION,
	.value = (H5FD_class_value_t)DRIVER_VALUE,
#endif
	.name = "esker",
	.maxaddr = MAX_ADDRESS,
	.fc_degree = H5F_CLOSE_STRONG,
	.fapl_size = sizeof(esk_h5_link *),
	.fapl_get = fapl_get,
	.fapl_copy = fapl_copy,
	.fapl_free = fapl_free,
	.open = driver_open,
	.close = driver_close,
	.query = driver_query,
	.get_eoa = driver_get_eoa,
	.set_eoa = driver_set_eoa,
	.get_eof = driver_get_eof,
	.read = driver_read,
	.write = driver_write,
	.truncate = driver_truncate,
	.fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* libhdf5's metadata cache grows to 32 MB by itself while a recording goes on; this much holds the working
 * set of hundreds of datasets. */
static herr_t set_cache(hid_t fapl)
{
	H5AC_cache_config_t config = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
	if (H5Pget_mdc_config(fapl, &config) < 0)
		return -1;
	config.set_initial_size = true;
	config.initial_size = CACHE_FIRST_BYTES;
	config.min_size = CACHE_FIRST_BYTES;
	config.max_size = CACHE_MOST_BYTES;
	return H5Pset_mdc_config(fapl, &config);
}

hid_t esk_h5_link_fapl(esk_h5_link *link, bool bounded)
{
	static hid_t driver = H5I_INVALID_HID;
	hid_t fapl;

	/* A program that uses libhdf5 itself may have closed it (H5close), with all its ids. */
	if (driver < 0 || H5Iget_type(driver) != H5I_VFL)
		driver = H5FDregister(&driver_class);
	if (driver < 0)
		return H5I_INVALID_HID;
	fapl = H5Pcreate(H5P_FILE_ACCESS);
	if (fapl < 0)
		return fapl;
	if (set_cache(fapl) < 0 || H5Pset_driver(fapl, driver, &link) < 0 ||
		H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0 ||
		(bounded && H5Pset_libver_bounds(fapl, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18) < 0)) {
		esk_h5_drop(fapl);
		return H5I_INVALID_HID;
	}
	return fapl;
}
