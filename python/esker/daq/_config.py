"""Settings of sessions and the daemon: environment over `esker.toml` over defaults."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from esker._errors import call, text
from esker._native import ffi, lib
from esker._numbers import count
from esker._refs import encoded

_COUNTS = {"compression_level", "rotate_bytes", "keep_segments"}


@dataclasses.dataclass
class StorageConfig:
    """The settings that sessions take; `StorageConfig.load` reads files and environment.

    A relative `output_dir` is relative to the current directory.
    """

    default_backend: str = "hdf5"
    output_dir: str | os.PathLike[str] = "./data"
    compression_level: int = 6
    """0 to 9; 0: not compressed."""
    codec: str = ""
    """Instead of the level: "zstd:3", …"""
    auto_flush_interval_secs: float = 30
    """0: only when asked."""
    application: str = "Esker"
    rotate_bytes: int = 0
    rotate_period: str = "none"
    keep_segments: int = 0
    encrypt: bool = False
    key_file: str = ""
    columns: Mapping[str, str | tuple[str, int]] = dataclasses.field(default_factory=dict)
    """Of single columns ("COLUMN" or "INSTRUMENT/COLUMN"): codec, or (codec, rows per chunk)."""

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> StorageConfig:
        """Reads the environment, and a file: `path`, else what ESKER_CONFIG names, else ./esker.toml.

        An unknown key or a bad value is an error that says where.
        """
        config = ffi.new("esk_storage_config *")
        config.struct_size = ffi.sizeof("esk_storage_config")
        call(
            lib.esk_storage_config_load,
            ffi.NULL if path is None else encoded(os.fspath(path), "path"),
            config,
        )
        try:
            return cls._read(config)
        finally:
            lib.esk_storage_config_free(config)

    @classmethod
    def _read(cls, config: Any) -> StorageConfig:
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            if field.name != "columns":
                value = getattr(config, field.name)
                values[field.name] = text(value) if isinstance(value, ffi.CData) else value
        rules = (config.columns[i] for i in range(config.column_count))
        values["columns"] = {
            text(rule.name): (text(rule.codec) if rule.codec else "", rule.chunk_rows) for rule in rules
        }
        return cls(**values)

    def _made(self) -> tuple[Any, list[Any]]:
        """The C struct, and what it points to."""
        config, keep = ffi.new("esk_storage_config *"), []
        config.struct_size = ffi.sizeof("esk_storage_config")
        keep += [ffi.new("char[]", b""), ffi.new("char[]", b"columns")]
        config.daemon_socket = config.daemon_metrics_file = keep[0]
        config.daemon_layout = keep[1]
        config.daemon_max_message_bytes, config.daemon_max_clients, config.daemon_ring_mb = 64 << 20, 64, 256
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "columns":
                continue
            if field.name in _COUNTS:
                value = count(value, field.name)
            elif isinstance(value, (str, os.PathLike)):
                value = ffi.new("char[]", encoded(os.fspath(value), field.name))
                keep.append(value)
            setattr(config, field.name, value)
        rules = ffi.new("esk_column_rule[]", max(1, len(self.columns)))
        for i, (name, rule) in enumerate(self.columns.items()):
            codec, rows = (rule, 0) if isinstance(rule, str) else rule
            keep += [
                ffi.new("char[]", encoded(name, "columns")),
                ffi.new("char[]", encoded(codec, "columns")),
            ]
            rules[i].name, rules[i].codec, rules[i].chunk_rows = (
                keep[-2],
                keep[-1] if codec else ffi.NULL,
                rows,
            )
        config.columns, config.column_count = rules, len(self.columns)
        keep.append(rules)
        return config, keep
