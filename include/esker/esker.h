/* Esker: records fast streams of arrays into ordinary HDF5 files. This header brings the whole public API. */
#ifndef ESKER_ESKER_H
#define ESKER_ESKER_H

#include <esker/arrow.h>
#include <esker/arrow_encode.h>
#include <esker/arrow_store.h>
#include <esker/check.h>
#include <esker/codec.h>
#include <esker/column.h>
#include <esker/daemon.h>
#include <esker/daq.h>
#include <esker/export.h>
#include <esker/key.h>
#include <esker/log.h>
#include <esker/machine.h>
#include <esker/nearest.h>
#include <esker/plain.h>
#include <esker/profile.h>
#include <esker/query.h>
#include <esker/reader.h>
#include <esker/ref.h>
#include <esker/replay.h>
#include <esker/ring.h>
#include <esker/status.h>
#include <esker/storage_config.h>
#include <esker/store.h>

#endif
