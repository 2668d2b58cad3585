/* What single columns are stored with, as options say it: "PATH@CODEC#CHUNK_ROWS …" (arrow_store.h), where
 * PATH is "COLUMN" for every instrument or "INSTRUMENT/COLUMN". A sink takes rules of its own columns only.
 */
#ifndef ESK_DAQ_RULES_H
#define ESK_DAQ_RULES_H

#include <esker/arrow.h>
#include <esker/daq.h>

typedef struct esk_daq_rules esk_daq_rules;

/* NULL or "": *ret_rules is NULL, which the calls below take for no rules. Errors: ESK_EINVAL (place, what
 * was expected), ESK_ENOMEM, those of esk_codec_check. */
esk_status esk_daq_rules_parse(const char *text, esk_daq_rules **ret_rules, esk_error *err);
void esk_daq_rules_free(esk_daq_rules *rules);

/* The rules that columns of `schema` have under this instrument, as a sink takes them; NULL: none. To be
 * freed. Those that name the instrument come before the others. */
esk_status esk_daq_rules_for(const esk_daq_rules *rules, const char *instrument,
	const struct ArrowSchema *schema, char **ret_text, esk_error *err);

/* The texts that options made from a configuration point to. */
typedef struct esk_daq_texts {
	char codec[64];
	char *columns;
} esk_daq_texts;

/* Options of a session, and of a writer, as a configuration says. They point into `config` and `ret_texts`,
 * which is freed after them. */
esk_status esk_daq_session_options_of(const esk_storage_config *config, esk_daq_texts *ret_texts,
	esk_session_options *ret_options, esk_error *err);
esk_status esk_daq_writer_options_of(const esk_storage_config *config, esk_daq_texts *ret_texts,
	esk_daq_writer_options *ret_options, esk_error *err);
void esk_daq_texts_free(esk_daq_texts *texts);

#endif
