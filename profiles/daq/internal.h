/* What every file of the instruments' profile uses. The profile is written on the public API alone. */
#ifndef ESK_DAQ_INTERNAL_H
#define ESK_DAQ_INTERNAL_H

#include <esker/profile.h>
#include <stdarg.h>

#define esk_daq_fail esk_fail
#define esk_daq_fail_errno esk_fail_errno
#define esk_daq_fail_memory esk_fail_memory
#define esk_daq_fail_in esk_fail_in
#define esk_daq_take_struct esk_struct_take

#endif
