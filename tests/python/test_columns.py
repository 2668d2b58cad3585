"""Column definitions in all their forms."""

from __future__ import annotations

import esker
import numpy as np
import pytest
from esker._columns import column_specs, columns_like

DTYPES = ["bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "f32", "f64", "c64", "c128"]


def texts(columns: object) -> list[str]:
    return [str(spec) for spec in column_specs(columns)]


def test_text_gives_columns_in_order() -> None:
    specs = column_specs("frames:u8[210,160,3]@gzip:1 action:i32 note:str? tag:str16")
    assert [spec.name for spec in specs] == ["frames", "action", "note", "tag"]
    assert specs[0].shape == (210, 160, 3)
    assert specs[0].codec == "gzip:1"
    assert np.dtype("u1") == specs[0].numpy_dtype
    assert specs[2].nullable
    assert specs[3].dtype == "str16"
    assert np.dtype("O") == specs[3].numpy_dtype


def test_forms_agree() -> None:
    expected = ["frames:u8[4,5]", "action:i32", "reward:f64", "note:str"]
    assert texts({"frames": (np.uint8, (4, 5)), "action": "i32", "reward": float, "note": str}) == expected
    assert (
        texts({"frames": "u8[4,5]", "action": np.int32, "reward": np.dtype("f8"), "note": "str"}) == expected
    )
    assert (
        texts(
            {
                "frames": ("uint8", (4, 5)),
                "action": np.dtype("<i4"),
                "reward": "float64",
                "note": np.dtype("U9"),
            }
        )
        == expected
    )
    assert texts([esker.ColumnSpec("frames", "u8", (4, 5)), "action:i32 reward:f64", "note:str"]) == expected
    assert texts({"frames": np.dtype((np.uint8, (4, 5)))}) == expected[:1]
    structured = np.dtype([("frames", "u1", (4, 5)), ("action", "<i4"), ("reward", "<f8")])
    assert texts(structured) == expected[:3]


def test_like_derives_from_samples() -> None:
    sample = {
        "frames": np.zeros((4, 5), np.uint8),
        "action": 3,
        "reward": 0.5,
        "done": False,
        "note": "left",
        "small": np.float32(1),
        "names": np.array(["a", "b"], object),
    }
    expected = [
        "frames:u8[4,5]",
        "action:i64",
        "reward:f64",
        "done:bool",
        "note:str",
        "small:f32",
        "names:str[2]",
    ]
    assert [str(spec) for spec in columns_like(sample)] == expected


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_round_trips_through_numpy(name: str) -> None:
    (spec,) = column_specs(f"x:{name}")
    assert esker.ColumnSpec("x", spec.numpy_dtype).dtype == name


def test_units_and_long_name_are_kept(run: esker.Run) -> None:
    run.stream("imu", [esker.ColumnSpec("acc", "f64", (3,), units="m/s^2", long_name="acceleration")])
    column = run["imu/acc"]
    assert column.units == "m/s^2"
    assert column.spec.long_name == "acceleration"


@pytest.mark.parametrize(
    ("columns", "error", "said"),
    [
        ("x", esker.InvalidArgument, "x"),
        ("x:u9", esker.InvalidArgument, "u9"),
        ({"x": "u9"}, esker.InvalidArgument, "u9"),
        ({"x": object}, esker.TypeMismatch, "column 'x'"),
        ({"x": np.dtype(">i4")}, esker.TypeMismatch, "native byte order"),
        ({"x": np.dtype("M8[ns]")}, esker.TypeMismatch, "datetime64"),
        ({"x": ("u8", (0,))}, esker.InvalidArgument, "1 or more"),
        ({"x": ("u8", "ab")}, esker.InvalidArgument, "whole numbers"),
        ({"x": "u8 y:i32"}, esker.InvalidArgument, "one dtype"),
        (np.dtype("u1"), esker.TypeMismatch, "structured"),
        ([3], esker.TypeMismatch, "ColumnSpec"),
    ],
)
def test_bad_columns_are_refused(columns: object, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=r".") as caught:
        column_specs(columns)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_over_long_names_are_refused(run: esker.Run) -> None:
    with pytest.raises(esker.InvalidArgument, match="at most 255 bytes"):
        run.stream("/", [esker.ColumnSpec("x" * 256, "u8")])
    with pytest.raises(esker.InvalidArgument, match="at most 63 bytes"):
        run.stream("/", [esker.ColumnSpec("x", "u8", units="y" * 64)])


def test_a_stream_opens_again_with_the_same_columns_only(run: esker.Run) -> None:
    stream = run.stream("/", "x:i32 y:f64")
    assert run.stream("/", "x:i32 y:f64") is stream
    assert run.stream("/") is stream
    with pytest.raises(esker.TypeMismatch, match="x"):
        run.stream("/", "x:i64 y:f64")
    with pytest.raises(esker.NotFound, match="other"):
        run.stream("other")
    with pytest.raises(esker.InvalidArgument, match="both"):
        run.stream("/", "x:i32", like={"x": 1})


def test_a_read_column_defines_another(run: esker.Run) -> None:
    run.stream("/", "x:i32[3]?")
    stream = run.stream("copy", [run["x"]])
    assert str(stream.columns[0]) == str(run["x"].spec).replace("@gzip:1", "") or stream.columns[0].shape == (
        3,
    )
    assert stream.columns[0].nullable
