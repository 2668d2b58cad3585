"""`esker plot`: charts whose pixels are looked at."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

BLUE, ORANGE = 1, -1  # the first two lines: more blue than red, more red than blue


def record(store, run, **arrays):
    for name, array in arrays.items():
        np.save(store.directory / f"{name}.npy", array)
    store("record", "data", run, *(f"{name}.npy" for name in arrays), "--ring", "8M")


def draw(store, *words):
    store("plot", "data", *words, "-o", "chart.png")
    return np.asarray(
        Image.open(io.BytesIO((store.directory / "chart.png").read_bytes())).convert("RGB")
    ).astype(int)


def near(picture, colour):
    """Where the picture has this colour, however faint: rows, columns."""
    return np.nonzero(colour * (picture[:, :, 2] - picture[:, :, 0]) > 30)


def test_a_line_goes_where_its_values_are(store):
    record(store, "r", x=np.linspace(0.0, 10.0, 1000), y=np.linspace(5.0, -5.0, 1000))
    picture = draw(store, "h5://r/y", "-x", "x", "--size", "800x400")
    assert picture.shape == (400, 800, 3)
    rows, columns = near(picture[40:350, 92:780], BLUE)
    rows, columns = rows[columns < 500], columns[columns < 500]  # beside the legend
    assert len(rows) > 400
    slope, _ = np.polyfit(columns, rows, 1)
    assert 0.3 < slope < 0.6 and np.corrcoef(columns, rows)[0, 1] > 0.99  # falling: rows count downwards


def test_no_spike_is_lost(store):
    spike = np.zeros(200_000)
    spike[123_456] = 100.0
    record(store, "r", y=spike)
    rows, columns = near(draw(store, "h5://r/y", "--size", "600x400"), BLUE)
    high = columns[(rows > 45) & (rows < 200) & (columns < 480)]  # the legend is further right
    assert len(high) > 0 and abs((np.median(high) - 90) / (600 - 108) - 123_456 / 200_000) < 0.01


def test_columns_of_other_units_have_panels_of_their_own(store):
    store(
        "record",
        "data",
        "c",
        "--source",
        "csv",
        "--ring",
        "1M",
        data=b"time,u (V),i (A),v (V)\n1,1,5,3\n2,2,6,2\n3,3,7,1\n",
    )
    store("plot", "data", "h5://c/u", "h5://c/i", "h5://c/v", "-o", "three.svg")
    tree = ElementTree.parse(store.directory / "three.svg")
    assert tree.getroot().attrib["height"] in ("560", "560pt")  # two panels
    store("plot", "data", "h5://c/u", "h5://c/v", "-o", "two.svg")
    assert ElementTree.parse(store.directory / "two.svg").getroot().attrib["height"] in ("340", "340pt")


def test_a_cell_of_several_numbers_is_several_lines(store):
    record(store, "r", acc=np.stack([np.full(100, 1.0), np.full(100, 2.0)], axis=1))
    picture = draw(store, "h5://r/acc")
    assert len(near(picture, BLUE)[0]) > 500 and len(near(picture, ORANGE)[0]) > 500


def test_values_that_are_missing_or_not_finite_are_left_out(store):
    store(
        "record",
        "data",
        "c",
        "--source",
        "csv",
        "--ring",
        "1M",
        "-c",
        "y:f64?",
        data=b"y\n1\n\nnan\ninf\n-1\n,\n"[:-2],
    )
    picture = draw(store, "h5://c/y")
    assert len(near(picture, BLUE)[0]) > 50


@pytest.mark.parametrize("value", [0.0, -3.5, 1e300])
def test_one_row_and_equal_values_can_be_drawn(store, value):
    record(store, "one", y=np.array([value]))
    draw(store, "h5://one/y")
    record(store, "same", y=np.full(50, value))
    assert len(near(draw(store, "h5://same/y"), BLUE)[0]) > 300


def test_a_line_breaks_where_values_are_missing_and_a_lone_one_is_a_dot(store):
    y = np.full(1000, 5.0)
    y[400:600] = np.nan
    y[500] = 5.0
    record(store, "r", y=y)
    rows, columns = near(draw(store, "h5://r/y", "--size", "1108x300")[60:250], BLUE)  # a row is a pixel
    columns = set(columns - 90)
    assert set(range(5, 395)) < columns and set(range(605, 900)) < columns
    assert 500 in columns and not (columns & set(range(405, 495))) and not (columns & set(range(505, 595)))
    assert 3 <= np.ptp(rows) <= 6  # the dot is thicker than the line


def test_a_column_without_values_is_an_empty_panel(store):
    record(store, "r", y=np.full(100, np.nan), z=np.arange(100.0))
    assert len(near(draw(store, "h5://r/y")[60:], BLUE)[0]) == 0
    assert len(near(draw(store, "h5://r/y", "h5://r/z")[60:], ORANGE)[0]) > 300


@pytest.mark.parametrize("unit", [1, 1_000_000_000])
def test_a_time_axis_is_of_dates_in_every_unit(store, unit):
    """A column of times and its plot are the same, whatever the times are counted in."""
    seconds = 1_795_242_660 + np.arange(100)
    time = seconds * 1_000_000_000 if unit == 1 else seconds.astype(float)
    y = np.sin(np.arange(100) / 9)
    record(store, "ns", time=seconds * 1_000_000_000, y=y)
    record(store, "r", time=time, y=y)
    expected = draw(store, "h5://ns/y", "--title", "x")
    np.testing.assert_array_equal(draw(store, "h5://r/y", "--title", "x"), expected)


def test_refs_whose_x_axes_differ_are_not_drawn_over_each_other(store):
    record(store, "dates", time=1_795_242_660_000_000_000 + np.arange(10), y=np.zeros(10))
    record(store, "rows", y=np.zeros(10))
    done = store("plot", "data", "h5://dates/y", "h5://rows/y", "-o", "x.png", code=1)
    assert "its x axis is the rows' numbers, that of the refs before it dates" in done.stderr
    assert not (store.directory / "x.png").exists()
    draw(store, "h5://dates/y", "h5://rows/y", "-x", "row")


def test_values_that_hardly_differ_for_their_size_are_told_apart(store):
    record(store, "r", y=1e12 + np.arange(100) / 100)
    rows, columns = near(draw(store, "h5://r/y", "--size", "800x400")[40:350, 92:780], BLUE)
    columns, rows = columns[columns > 200], rows[columns > 200]  # beside the legend
    assert np.ptp(rows) > 150 and np.corrcoef(columns, rows)[0, 1] < -0.99


def test_a_chart_that_is_too_low_for_its_panels_says_so(store):
    csv = b"a (V),b (A),c (K)\n1,2,3\n"
    store("record", "data", "r", "--source", "csv", "--ring", "1M", data=csv)
    words = ["h5://r/a", "h5://r/b", "h5://r/c", "--size", "300x120"]
    done = store("plot", "data", *words, "-o", "x.png", code=1)
    assert "3 panels need a height of" in done.stderr and not (store.directory / "x.png").exists()


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["h5://r/y"], 2, "-o FILE.png"),
        (["h5://r/y", "-o", "x.gif"], 2, "-o FILE.png"),
        (["h5://r/y", "-o", "x.png", "--size", "10x10"], 2, "--size"),
        (["h5://r/y", "-o", "x.png", "-x", "none"], 1, 'no column "none"'),
        (["h5://r/z", "-o", "x.png"], 1, "z"),
        (["h5://r/frames", "-o", "x.png"], 1, "a cell has 10000 numbers"),
        (["h5://r/y/5:5", "-o", "x.png"], 1, "no rows"),
        (["h5://r/y", "-o", "no/such/x.png"], 1, "no/such"),
    ],
)
def test_what_cannot_be_drawn_is_said(store, words, code, message):
    record(store, "r", y=np.zeros(10), frames=np.zeros((10, 100, 100)))
    assert message in store("plot", "data", *words, code=code).stderr
    assert not (store.directory / "x.png").exists()
