/* Where get writes: see target.h. */
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new file beside `path`, so that renaming it there is one atomic step. */
static int open_temporary(cli_target *t)
{
	size_t size = strlen(t->path) + 32;
	t->temporary = cli_alloc(size);
	snprintf(t->temporary, size, "%s.part-XXXXXX", t->path);
	int fd = mkostemp(t->temporary, O_CLOEXEC);
	if (fd < 0) {
		int code = cli_fail("%s: cannot be written: %s", t->path, strerror(errno));
		free(t->temporary);
		t->temporary = NULL;
		return code;
	}
	mode_t mask = umask(0);
	umask(mask);
	(void)fchmod(fd, 0666 & ~mask); /* mkstemp's 0600 is safe, if narrow */
	t->out = fdopen(fd, "wb");
	return CLI_OK;
}

int cli_target_open(const char *path, cli_target *ret_target)
{
	*ret_target = (cli_target){0};
	if (path == NULL || strcmp(path, "-") == 0) {
		ret_target->out = stdout;
		return CLI_OK;
	}
	ret_target->path = path;
	struct stat st;
	int code = CLI_OK;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return cli_fail("%s: is a directory", path);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		ret_target->out = fopen(path, "wb");
	else
		code = open_temporary(ret_target);
	if (code == CLI_OK && ret_target->out == NULL)
		code = cli_fail("%s: cannot be written: %s", path, strerror(errno));
	return code;
}

int cli_target_close(cli_target *t, int code)
{
	if (t->path == NULL)
		return code;
	errno = 0;
	bool failed = t->out != NULL && (ferror(t->out) != 0 || fflush(t->out) != 0);
	if (t->out != NULL && fclose(t->out) != 0)
		failed = true;
	if (code == CLI_OK && !failed && t->temporary != NULL && rename(t->temporary, t->path) != 0)
		failed = true;
	if (code == CLI_OK && failed)
		code = cli_fail("%s: cannot be written: %s", t->path, strerror(errno != 0 ? errno : EIO));
	if (code != CLI_OK && t->temporary != NULL)
		unlink(t->temporary);
	free(t->temporary);
	*t = (cli_target){0};
	return code;
}
