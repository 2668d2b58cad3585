/* Any bytes as journal and file: opening never crashes, and changes the file only where a complete record
 * says so.
 *
 * Input: first byte: flags (1: mend the checksums, so that the fuzzer gets behind them; 2: the inode is the
 * file's); second and third: length of the file's part; then the file's bytes, then the journal's. */
#include "journal/journal.h"
#include "journal/record.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[64];
static char journal_path[80];

static void make_paths(void)
{
	if (path[0] != '\0')
		return;
	char directory[] = "/tmp/esk-fuzz-XXXXXX";
	if (access("/dev/shm", W_OK) == 0)
		memcpy(directory, "/dev/shm/eskXXXXXX", sizeof("/dev/shm/eskXXXXXX"));
	if (mkdtemp(directory) == NULL)
		abort();
	snprintf(path, sizeof(path), "%s/a", directory);
	snprintf(journal_path, sizeof(journal_path), "%s-journal", path);
}

static void put_file(const char *name, const uint8_t *bytes, size_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size || ftruncate(fd, (off_t)size) != 0)
		abort();
	close(fd);
}

static void mend_header(uint8_t *journal, size_t size, size_t at, uint64_t inode)
{
	esk_journal_header header;
	if (at + sizeof(header) > size)
		return;
	memcpy(&header, journal + at, sizeof(header));
	memcpy(header.magic, "ESKJRNL\n", 8);
	header.version = ESK_JOURNAL_VERSION;
	header.page_bytes = ESK_PAGE_BYTES;
	header.generation = header.generation - (header.generation & 1) + (at != 0);
	if (inode != 0)
		header.inode = inode;
	header.crc = esk_crc32c(0, &header, offsetof(esk_journal_header, crc));
	memcpy(journal + at, &header, sizeof(header));
}

static void mend_slot(uint8_t *journal, size_t size, size_t at, uint64_t session)
{
	esk_journal_slot slot;
	if (at + sizeof(slot) > size)
		return;
	memcpy(&slot, journal + at, sizeof(slot));
	memcpy(&slot.magic, "ESKC", 4);
	slot.session = session;
	slot.commit = slot.commit - (slot.commit & 1) + (at != ESK_JOURNAL_SLOT_AT);
	if (slot.location <= size && slot.record_bytes <= size - slot.location)
		slot.record_crc = esk_crc32c(0, journal + slot.location, slot.record_bytes);
	slot.crc = esk_crc32c(0, &slot, offsetof(esk_journal_slot, crc));
	memcpy(journal + at, &slot, sizeof(slot));
}

static void mend(uint8_t *journal, size_t size, uint64_t inode)
{
	mend_header(journal, size, 0, inode);
	mend_header(journal, size, ESK_JOURNAL_HEADER_STEP, inode);
	esk_journal_header header = {0};
	if (size >= sizeof(header))
		memcpy(&header, journal, sizeof(header));
	mend_slot(journal, size, ESK_JOURNAL_SLOT_AT, header.session);
	mend_slot(journal, size, ESK_JOURNAL_SLOT_AT + ESK_JOURNAL_SECTOR_BYTES, header.session);
}

static void check_unchanged(const uint8_t *bytes, size_t size)
{
	static uint8_t now[70000];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, now, sizeof(now), 0) != (ssize_t)size || memcmp(now, bytes, size) != 0)
		abort();
	close(fd);
}

static void open_and_read(esk_jfile_mode mode, bool *ret_applied)
{
	uint8_t bytes[5000];
	esk_error err;
	esk_jfile *file = NULL;
	esk_jfile_recovery recovery = {0};
	if (esk_jfile_open(esk_os_posix(), path, mode, &file, &recovery, &err) != ESK_OK)
		return;
	*ret_applied = recovery.applied;
	uint64_t end = esk_jfile_end(file);
	esk_jfile_read(file, 0, bytes, sizeof(bytes), &err);
	esk_jfile_read(file, end / 2, bytes, sizeof(bytes), &err);
	esk_jfile_change_counter(file);
	esk_jfile_abandon(file); /* closing must not cut a tail: the file is compared */
	esk_jfile_close(file, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	make_paths();
	uint8_t flags = data[0];
	size_t file_size = (size_t)data[1] | (size_t)data[2] << 8;
	data += 3;
	size -= 3;
	if (file_size > size)
		file_size = size;
	put_file(path, data, file_size);
	size_t journal_size = size - file_size;
	uint8_t *journal = malloc(journal_size + 1);
	if (journal == NULL)
		return 0;
	memcpy(journal, data + file_size, journal_size);
	struct stat st;
	if (stat(path, &st) != 0)
		abort();
	if (flags & 1)
		mend(journal, journal_size, flags & 2 ? (uint64_t)st.st_ino : 0);
	put_file(journal_path, journal, journal_size);
	free(journal);

	bool applied = false;
	open_and_read(ESK_JFILE_READ, &applied);
	check_unchanged(data, file_size);
	applied = false;
	open_and_read(ESK_JFILE_WRITE, &applied);
	if (!applied)
		check_unchanged(data, file_size);
	return 0;
}
