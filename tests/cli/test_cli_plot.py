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
