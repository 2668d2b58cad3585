"""`esker config`: effective settings and where each came from."""

import json


def settings(esker, *words, environment=None):
    told = json.loads(esker.text("config", "--json", *words, environment=environment))
    return told, {entry["key"]: entry for entry in told["settings"]}


def test_defaults_are_shown_as_such(esker):
    told, found = settings(esker)
    assert told["file"] is None
    assert found["storage.compression_level"]["value"] == 6
    assert found["storage.auto_flush_interval_secs"]["value"] == 30
    assert found["storage.output_dir"]["value"] == "./data"
    assert found["storage.encrypt"]["value"] is False
    assert {entry["source"] for entry in found.values()} == {"default"}


def test_each_value_says_where_it_came_from(esker):
    (esker.directory / "esker.toml").write_text(
        '[storage]\noutput_dir = "runs"\nauto_flush_interval_secs = 0.5\n\n'
        '[storage.columns]\n"scope/wave" = "lz4"\n'
    )
    told, found = settings(esker, environment={"ESKER_STORAGE_OUTPUT_DIR": "elsewhere"})
    assert told["file"] == "esker.toml"
    assert found["storage.output_dir"]["value"] == "elsewhere"
    assert found["storage.output_dir"]["source"] == found["storage.output_dir"]["variable"]
    assert found["storage.auto_flush_interval_secs"]["value"] == 0.5
    assert found["storage.auto_flush_interval_secs"]["source"] == "esker.toml:3"
    assert found['storage.columns."scope/wave"']["source"] == "esker.toml:6"
    assert "storage.output_dir" in esker.text("config") and "esker.toml:2" in esker.text("config")


def test_the_file_can_be_named(esker):
    (esker.directory / "a.toml").write_text("[storage]\napplication = 'a'\n")
    (esker.directory / "b.toml").write_text("[storage]\napplication = 'b'\n")
    from_a = {"ESKER_CONFIG": "a.toml"}
    assert settings(esker, environment=from_a)[1]["storage.application"]["value"] == "a"
    assert settings(esker, "--config", "b.toml", environment=from_a)[1]["storage.application"]["value"] == "b"
    assert "missing.toml" in esker("config", "--config", "missing.toml", code=1).stderr


def test_faults_name_their_place(esker):
    (esker.directory / "esker.toml").write_text("[storage]\ncompresion_level = 3\n")
    told = esker("config", code=1).stderr
    assert 'esker.toml:2: [storage] has no key "compresion_level"; did you mean compression_level?' in told
    (esker.directory / "esker.toml").unlink()
    told = esker("config", code=1, environment={"ESKER_STORAGE_ROTATE_PERIOD": "week"}).stderr
    assert "ESKER_STORAGE_ROTATE_PERIOD" in told and '"none", "hour", "day"' in told


def test_bytes_in_the_environment_do_not_steer_the_terminal(esker):
    odd = {"ESKER_STORAGE_APPLICATION": "a\x1b[2Jb\udcff"}
    assert b"\x1b" not in esker("config", environment=odd).stdout
    raw = esker("config", "--json", environment=odd).stdout
    assert b"\x1b" not in raw and json.loads(raw)


def test_an_argument_is_a_usage_error(esker):
    assert "one argument too many" in esker("config", "x", code=2).stderr
