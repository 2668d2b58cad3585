/* Verify and repair, run by run, in a child process.
 *
 * libhdf5 itself may crash on a file whose structure is damaged; then the child dies, the run that it was at
 * is reported as damaged, and a new child goes on with the next. Repair tries each file out before that, and
 * so repairs the other files of such a run; verify, which is asked for often, does not. The child sends JSON
 * lines through a pipe: which run it begins, how far it is, findings, sums. */
#ifndef CLI_CHECKER_H
#define CLI_CHECKER_H

#include "json.h"
#include "place.h"

typedef struct cli_checker {
	const char *path; /* of the store */
	bool verbose;
	bool repair; /* else verify */
	uint32_t threads;
	bool quiet; /* findings are collected, not printed */
	/* Results: */
	json_t *findings; /* owned */
	esk_check_report sum;
} cli_checker;

/* Goes over the runs of `names` (objects with "name"). CLI_OK when the work was carried out, whatever it
 * found. */
int cli_check(cli_checker *checker, const char *verb, const json_t *names);
void cli_checker_clear(cli_checker *checker);

/* Prints one finding (a JSON object) as a line. */
void cli_print_finding(const json_t *finding);

/* The callback of esk_check_options that appends to the json_t array `arg`. */
void cli_collect_finding(void *arg, const esk_finding *finding);

#endif
