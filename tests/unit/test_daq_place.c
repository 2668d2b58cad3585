/* Where a daemon listens: one for a store, for its owner alone, found again after a death, and never in the
 * place of something else. */
#include "daemon_rig.h"
#include <signal.h>
#include <sys/wait.h>

static esk_status take(rig *r, const char *socket_path, esk_error *err)
{
	esk_daemon_place place = {.lock_fd = -1, .folder_fd = -1, .listen_fd = -1};
	esk_status status = esk_daemon_place_take(r->store, socket_path, &place, err);
	esk_daemon_place_leave(&place);
	return status;
}

static void the_socket_is_for_its_owner_alone(void **state)
{
	rig *r = *state;
	struct stat st;
	mode_t before = umask(0);
	rig_start(r);
	umask(before);
	assert_int_equal(stat(r->place.socket_path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	char path[128];
	strcpy(path, r->place.socket_path);
	rig_stop(r);
	assert_int_not_equal(stat(path, &st), 0);
}

static void a_second_daemon_is_refused_by_name(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	char pid[32], other[128];
	rig_start(r);
	assert_int_equal(take(r, NULL, &err), ESK_EBUSY);
	snprintf(pid, sizeof pid, "process %d ", (int)getpid());
	if (strstr(err.message, pid) == NULL)
		fail_msg("\"%s\" does not name %s", err.message, pid);
	/* Another socket does not help: it is the store that is served. */
	snprintf(other, sizeof other, "%s/other.sock", r->dir->path);
	assert_int_equal(take(r, other, &err), ESK_EBUSY);
	/* Nor does another store, for the same socket. */
	char store[128], spool[160];
	snprintf(store, sizeof store, "%s/store2", r->dir->path);
	snprintf(spool, sizeof spool, "%s/spool", store);
	assert_int_equal(mkdir(store, 0700) | mkdir(spool, 0700), 0);
	esk_daemon_place place = {.lock_fd = -1, .folder_fd = -1, .listen_fd = -1};
	assert_int_equal(esk_daemon_place_take(store, r->place.socket_path, &place, &err), ESK_EBUSY);
	assert_non_null(strstr(err.message, "listens there already"));
	esk_client_close(join(r, NULL));
}

static void what_a_killed_daemon_left_is_replaced(void **state)
{
	rig *r = *state;
	pid_t child = fork();
	if (child == 0) {
		esk_error err = {0};
		esk_daemon_place place;
		if (esk_daemon_place_take(r->store, NULL, &place, &err) == ESK_OK)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	char path[160];
	struct stat st;
	snprintf(path, sizeof path, "%s/spool/daemon.sock", r->store);
	assert_int_equal(stat(path, &st), 0);
	rig_start(r);
	esk_client_close(join(r, NULL));
}

static void a_file_in_the_sockets_place_is_left_alone(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	char path[160];
	snprintf(path, sizeof path, "%s/spool/daemon.sock", r->store);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	fclose(out);
	assert_int_equal(take(r, NULL, &err), ESK_EEXIST);
	assert_int_equal(access(path, F_OK), 0);
}

static void a_directory_that_others_may_write_to_is_refused(void **state)
{
	rig *r = *state;
	esk_error err = {0};
	char path[160];
	snprintf(path, sizeof path, "%s/spool", r->store);
	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(take(r, NULL, &err), ESK_EACCES);
	assert_non_null(strstr(err.message, "chmod go-w"));
	assert_int_equal(chmod(path, 01777), 0);
	assert_ok(take(r, NULL, &err), &err);
}

static void a_path_longer_than_an_address_works(void **state)
{
	rig *r = *state;
	char long_path[512];
	size_t size = (size_t)snprintf(long_path, sizeof long_path, "%s/", r->dir->path);
	for (int i = 0; i < 3; i++) {
		memset(long_path + size, 'a' + i, 80);
		size += 80;
		long_path[size] = '\0';
		assert_int_equal(mkdir(long_path, 0700), 0);
		long_path[size++] = '/';
	}
	strcpy(long_path + size, "esker.sock");
	esk_error err = {0};
	assert_ok(esk_daemon_place_take(r->store, long_path, &r->place, &err), &err);
	assert_ok(esk_server_create(r->place.listen_fd, &r->handler, &r->limits, &r->server, &err), &err);
	assert_int_equal(pthread_create(&r->thread, NULL, rig_serve, r), 0);
	r->running = true;
	esk_client *client;
	assert_ok(esk_client_connect(long_path, NULL, &client, &err), &err);
	esk_client_close(client);
}

/* Only root can be someone else. */
static void another_user_is_turned_away(void **state)
{
	rig *r = *state;
	if (geteuid() != 0)
		skip();
	rig_start(r);
	assert_int_equal(chmod(r->place.socket_path, 0666), 0);
	pid_t child = fork();
	if (child == 0) {
		esk_error err = {0};
		esk_client *client;
		char path[160];
		strcpy(path, r->place.socket_path);
		if (chmod(r->dir->path, 0755) != 0 || chmod(r->store, 0755) != 0)
			_exit(1);
		snprintf(path, sizeof path, "%s/spool", r->store);
		if (chmod(path, 0755) != 0 || setuid(65534) != 0)
			_exit(2);
		esk_status status = esk_client_connect(r->store, NULL, &client, &err);
		_exit(status == ESK_EACCES && strstr(err.message, "user 65534 may not") != NULL ? 0 : 3);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		T(the_socket_is_for_its_owner_alone),
		T(a_second_daemon_is_refused_by_name),
		T(what_a_killed_daemon_left_is_replaced),
		T(a_file_in_the_sockets_place_is_left_alone),
		T(a_directory_that_others_may_write_to_is_refused),
		T(a_path_longer_than_an_address_works),
		T(another_user_is_turned_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
