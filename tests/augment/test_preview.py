"""A preview shows the pixels that the ops give, and draws targets where they move to."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from augment import Policy, Targets
from augment.ops import OPS, apply_op
from augment.policy.schedule import Schedule
from augment.presets import preset
from augment.preview import TextPreview, TextSample, difference, letters, preview, reach
from augment.preview.display import COLOURS
from augment.preview.sheet import layout

WIDE = preset("trivial_augment_wide")
RED = np.array(COLOURS[0], np.uint8)


def picture(h: int = 20, w: int = 26, c: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    made = np.random.default_rng(h * w * c).integers(0, np.iinfo(np.uint16).max, (h, w, c))
    if dtype == np.float32:
        return (made / 65535).astype(np.float32)
    return made.astype(np.uint16) if dtype == np.uint16 else (made >> 8).astype(np.uint8)


def of(ops: list[dict[str, Any]], **more: Any) -> Policy:
    return Policy(name="mine", subpolicies=[[op] for op in ops], **more)


class Page(HTMLParser):
    """Reads a page: its images, and that what opens is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str]] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "img":
            self.images.append({name: value or "" for name, value in attrs})
        if tag not in {"img", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def pixels(self, n: int) -> np.ndarray:
        kind, _, data = self.images[n]["src"].partition(",")
        assert kind in {"data:image/png;base64", "data:image/jpeg;base64"}
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_every_cell_of_the_page_and_the_sheet_holds_the_pixels_of_the_op() -> None:
    image, id_ = picture(), "0123456789abcdef0123456789abcdef"
    shown = preview(WIDE, image, id_, seed=5, epochs=4)
    expected, epochs = [image], [WIDE.apply(image[None], [id_], seed=5, epoch=n)[0] for n in range(1, 5)]
    expected += epochs
    names = [name for name in WIDE.ops if name != "Identity"]
    assert [row.name for row in shown.levels] == names
    for name in names:
        signed, magnitude = OPS[name].wide.signed, OPS[name].has_magnitude
        levels = [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1] if signed else [0, 0.25, 0.5, 0.75, 1]
        for level in levels if magnitude else [0.0]:
            sign = -1 if level < 0 else 1
            expected.append(apply_op(name, image[None], abs(level), ids=[id_], signs=[sign], seed=5)[0])
    cells = [shown.original, *shown.samples.cells, *(cell for row in shown.levels for cell in row.cells)]
    assert len(cells) == len(expected)
    page, sheet = Page(shown.html()), np.asarray(Image.open(io.BytesIO(shown.png())))
    assert [int(one["width"]) for one in page.images[:6]] == [156] * 5 + [104]
    for n, (want, (x, y, cell)) in enumerate(zip(expected, layout(shown).pictures, strict=True)):
        assert np.array_equal(cells[n].image, want)
        factor = 6 if n < 5 else 4
        large = want.repeat(factor, axis=0).repeat(factor, axis=1)
        assert np.array_equal(page.pixels(n), large)
        assert cell is cells[n]
        assert np.array_equal(sheet[y : y + large.shape[0], x : x + large.shape[1]], large)


def test_a_preview_does_not_change_with_the_array_that_it_was_made_of() -> None:
    image = picture()
    shown = preview(of([{"op": "Invert"}]), image, 1, epochs=1)
    expected = 255 - image
    image[:] = 0
    assert np.array_equal(shown.samples.cells[0].image, expected)


def test_words_and_what_was_fused() -> None:
    policy = Policy(subpolicies=[[{"op": "Rotate", "magnitude": 0.1}, {"op": "FlipX"}, {"op": "Invert"}]])
    shown = preview(policy, picture(), 1, seed=4, epochs=3)
    for epoch, cell in enumerate(shown.samples.cells, start=1):
        assert cell.title == f"epoch {epoch}"
        assert cell.words == policy.describe(policy.draw([1], 4, epoch)[0])
        assert cell.fused == policy.compile([1], size=(20, 26), seed=4, epoch=epoch).explain(0)
        assert "one resampling of 2 ops" in cell.fused
        assert cell.fused.splitlines()[0] in shown.html()
    assert [cell.words for cell in shown.levels[2].cells] == ["FlipX"]


def test_the_levels_stay_within_the_ceiling() -> None:
    policy = of([{"op": "Rotate", "magnitude": (0.1, 0.4)}, {"op": "Posterize", "magnitude": 0.5}])
    assert reach(policy, "Rotate") == (-0.4, 0.4)
    shown = preview(policy, picture(), 1, epochs=0)
    titles = [cell.title for cell in shown.levels[0].cells]
    assert titles == [f"level {level:g}" for level in (-0.4, -0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4)]
    # Whole parameters that repeat are shown once.
    assert [cell.words for cell in shown.levels[1].cells] == [f"Posterize {n} bits" for n in (8, 7, 6, 5)]


def test_parameters_schedules_and_normal_magnitudes_have_a_reach() -> None:
    policy = of(
        [
            {"op": "Rotate", "parameter": (-10, 25)},
            {"op": "Solarize", "magnitude": Schedule.ramp(0.0, 0.6, over=10)},
            {"op": "Color", "magnitude": {"mean": 0.5, "std": 0.1}},
            {"op": "Blur", "parameter": 2.0},
            {"op": "Sharpness", "parameter": 1.5, "mirrored": True},
        ]
    )
    low, high = reach(policy, "Rotate") or (0, 0)
    assert (135 * low, 135 * high) == pytest.approx((-10, 25))
    assert reach(policy, "Solarize") == (0.0, 0.6)
    assert reach(policy, "Color") == pytest.approx((-0.7, 0.7))
    assert reach(policy, "Invert") is None
    shown = {
        row.name: [cell.words for cell in row.cells] for row in preview(policy, picture(), 1, epochs=2).levels
    }
    assert shown["Rotate"][0] == "Rotate -10.0°"
    assert shown["Rotate"][-1] == "Rotate 25.0°"
    assert shown["Blur"][-1] == "Blur sigma 2.0 px"
    assert (shown["Sharpness"][0], shown["Sharpness"][-1]) == ("Sharpness x0.50", "Sharpness x1.50")


@pytest.mark.parametrize("box_format", ["pascal_voc", "coco"])
def test_boxes_are_drawn_where_they_move_to(box_format: Any) -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    box = [2.0, 3.0, 8.0, 10.0] if box_format == "pascal_voc" else [2.0, 3.0, 6.0, 7.0]
    targets = Targets(boxes=[[box]], box_format=box_format)
    policy = of([{"op": "TranslateX", "parameter": 5}])
    shown = preview(policy, image, 1, epochs=1, targets=targets)
    _, moved = policy.apply(image[None], [1], epoch=1, targets=targets)
    for cell, left in ((shown.original, 2), (shown.samples.cells[0], 7)):
        rows, columns = np.nonzero((cell.shown == RED).all(axis=2))
        assert (rows.min(), rows.max() + 1) == (3 * 8, 10 * 8)
        assert (columns.min(), columns.max() + 1) == (left * 8, (left + 6) * 8)
        assert not cell.shown[5 * 8, (left + 3) * 8].any()  # nothing inside
        assert np.array_equal(cell.image, image)
    assert np.asarray(moved.boxes[0])[0, 0] == 7
    assert np.array_equal(shown.samples.cells[0].targets.boxes[0], moved.boxes[0])


def test_a_box_keeps_its_colour_when_others_go() -> None:
    image = np.zeros((20, 20, 1), np.uint8)
    targets = Targets(boxes=[[[0, 12, 4, 16], [14, 12, 18, 16]]])
    cell = preview(
        of([{"op": "TranslateX", "parameter": -12}]), image, 1, epochs=1, targets=targets
    ).samples.cells[0]
    assert cell.targets.kept[0].tolist() == [1]
    colours = {tuple(colour) for colour in cell.shown.reshape(-1, 3).tolist()}
    assert colours == {(0, 0, 0), COLOURS[1]}


def test_labels_stand_on_their_boxes_in_one_colour_each() -> None:
    targets = Targets(
        boxes=[[[2, 10, 6, 18], [10, 10, 14, 18], [14, 2, 19, 8]]], box_labels=[["cat", "dog", "cat"]]
    )
    shown = preview(of([{"op": "FlipX"}]), np.zeros((20, 20, 1), np.uint8), 1, epochs=1, targets=targets)
    for cell in (shown.original, shown.samples.cells[0]):
        seen = {tuple(colour) for colour in cell.shown.reshape(-1, 3).tolist()}
        assert {COLOURS[0], COLOURS[1]} <= seen
        assert any(min(colour) > 200 for colour in seen)  # the letters
        assert COLOURS[2] not in seen


def test_masks_are_tinted_and_outlined_and_keypoints_are_dots() -> None:
    image = np.full((20, 20, 1), 100, np.uint8)
    mask = np.zeros((20, 20), np.int32)
    mask[4:12, 2:10] = 2
    targets = Targets(masks=[mask], keypoints=[[[15.5, 4.5], [1.0, 1.0]]])
    policy = of([{"op": "FlipX"}])
    shown = preview(policy, image, 1, epochs=1, targets=targets)
    blue = np.array(COLOURS[1])
    for cell, left, x in ((shown.original, 2, 15.5), (shown.samples.cells[0], 10, 4.5)):
        inner = np.rint(100 * 0.65 + blue * 0.35).astype(np.uint8)
        tinted = np.argwhere((cell.shown == inner).all(axis=2))
        assert tinted.min(axis=0).tolist() == [4 * 8 + 1, left * 8 + 1]
        assert tinted.max(axis=0).tolist() == [12 * 8 - 2, (left + 8) * 8 - 2]
        assert (cell.shown[4 * 8, left * 8 : (left + 8) * 8] == blue).all()
        assert (cell.shown[int(4.5 * 8), int(x * 8)] == RED).all()
        assert (cell.shown[19 * 8, 19 * 8] == 100).all()


def test_a_keypoint_that_leaves_the_image_is_not_drawn() -> None:
    policy = of([{"op": "TranslateX", "parameter": -8}])
    targets = Targets(keypoints=[[[3.0, 3.0]]])
    shown = preview(policy, np.zeros((10, 10), np.uint8), 1, epochs=1, targets=targets)
    assert shown.original.shown.any()
    assert not shown.samples.cells[0].shown.any()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_images_are_shown_in_the_range_of_the_original(dtype: Any) -> None:
    image = picture(12, 14, 1, dtype)
    image = (image // 4 + 1000).astype(dtype) if dtype == np.uint16 else image * np.float32(0.5)
    shown = preview(of([{"op": "Brightness", "magnitude": 1}]), image, 3, epochs=1)
    low, high = float(image.min()), float(image.max())
    assert f"shown from {low:.6g} (black) to {high:.6g} (white)" in shown.note
    assert "cut off" in shown.note
    for cell in (shown.original, shown.samples.cells[0], *shown.levels[0].cells):
        assert cell.image.dtype == dtype
        want = ((cell.image.astype(np.float64) - low) / (high - low) * 255).clip(0, 255)
        got = cell.shown[:: cell.shown.shape[0] // 12, :: cell.shown.shape[1] // 14, 0]
        assert np.abs(got - want[..., 0]).max() <= 0.5 + 1e-6
    assert shown.original.shown.min() == 0
    assert shown.original.shown.max() == 255


def test_one_value_only_and_grey_without_a_channel() -> None:
    shown = preview(of([{"op": "Invert"}]), np.full((5, 5), 900, np.uint16), 1, epochs=1)
    assert shown.original.image.shape == (5, 5)
    assert not shown.original.shown.any()
    assert Page(shown.html()).images


def test_channels() -> None:
    image = picture(10, 10, 5)
    policy = of([{"op": "FlipX"}])
    first = preview(policy, image, 1, epochs=1)
    assert "the first three channels" in first.note
    assert np.array_equal(first.original.shown[::16, ::16], image[:, :, :3])
    sheet = preview(policy, image, 1, epochs=1, montage=True)
    assert "all channels side by side" in sheet.note
    for k, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        y, x = row * 164, column * 164
        assert np.array_equal(sheet.original.shown[y : y + 160 : 16, x : x + 160 : 16, 0], image[:, :, k])
    two = preview(policy, image[:, :, :2], 1, epochs=1)
    assert two.original.shown.shape == (160, 324, 3)
    assert Page(two.html()).images[0]["width"] == "324"


def test_large_images_are_reduced_after_augmenting() -> None:
    image = picture(320, 480, 3)
    shown = preview(of([{"op": "Invert"}]), image, 1, epochs=1)
    cell = shown.samples.cells[0]
    assert np.array_equal(cell.image, 255 - image)
    assert cell.shown.shape == (107, 160, 3)
    assert "reduced for display to 160 x 107" in shown.note
    assert not cell.exact
    means = (255 - image).reshape(320, 160, 3, 3).mean(axis=2)  # columns fall together exactly
    assert np.abs(cell.shown.mean(axis=0) - means.mean(axis=0)).max() < 2
    assert len(shown.html()) < 100_000


def test_between_the_two_sizes_only_the_levels_are_reduced() -> None:
    shown = preview(of([{"op": "Invert"}]), picture(120, 100, 1), 1, epochs=1)
    assert shown.samples.cells[0].exact
    assert not shown.levels[0].cells[0].exact
    assert shown.note.endswith("ops alone reduced to 87 x 104")


def test_ops_by_name_and_one_that_the_policy_lacks() -> None:
    shown = preview(of([{"op": "Invert"}]), picture(), 1, epochs=1, ops=["Jpeg", "Invert", "Jpeg"])
    assert [row.name for row in shown.levels] == ["Jpeg", "Invert"]
    assert "not in this policy" in shown.levels[0].note
    assert len(shown.levels[0].cells) == 5
    with pytest.raises(ValueError, match="did you mean 'Jpeg'"):
        preview(WIDE, picture(), 1, ops=["Jpg"])


def test_mixing_takes_a_partner() -> None:
    image, policy = picture(), of([{"op": "MixUp", "parameter": 0.5}])
    other = 255 - image
    shown = preview(policy, image, 1, epochs=1, partner=other, targets=Targets(keypoints=[[[3, 3]]]))
    mixed, _ = policy.apply(image[None], [1], epoch=1, partners=other[None])
    assert np.array_equal(shown.samples.cells[0].image, mixed[0])
    assert shown.samples.cells[0].targets is None
    alone = preview(policy, image, 1, epochs=1)
    mixed, _ = policy.apply(image[None], [1], epoch=1, partners=image[None, ::-1, ::-1])
    assert np.array_equal(alone.samples.cells[0].image, mixed[0])


def test_the_same_preview_gives_the_same_bytes(tmp_path: Any) -> None:
    targets = Targets(boxes=[[[1, 1, 9, 9]]], box_labels=[["é·"]], masks=[np.eye(20, 26, dtype=np.uint8)])
    one, two = (preview(WIDE, picture(), 9, seed=2, epochs=3, targets=targets) for _ in range(2))
    assert one.html() == two.html()
    assert one.png() == two.png()
    assert one.save(tmp_path / "a.html").read_text(encoding="utf-8") == one.html()
    assert one.save(tmp_path / "a.PNG").read_bytes() == one._repr_png_()
    with pytest.raises(ValueError, match=r"saved as \.html or \.png"):
        one.save(tmp_path / "a.jpg")


def test_the_page_is_whole_fetches_nothing_and_runs_nothing() -> None:
    policy = Policy(
        name='<script>"x"</script>&', subpolicies=[[{"op": "Rotate", "magnitude": 1}, {"op": "FlipX"}]]
    )
    shown = preview(
        policy, picture(), 9, epochs=2, targets=Targets(boxes=[[[1, 1, 9, 9]]], box_labels=[["<b>"]])
    )
    for html in (shown.html(), shown._repr_html_()):
        page = Page(html)
        assert not page.tags & {"script", "link", "iframe", "object", "svg"}
        assert not {name for name in page.attributes if name.startswith("on") or name in {"href", "style"}}
        assert all(one["src"].startswith("data:image/png;base64,") and one["alt"] for one in page.images)
        assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in shown.html()
    style = re.search(r"<style>(.*?)</style>", shown.html(), re.DOTALL)[1]
    import hashlib

    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in shown.html()


def test_a_policy_shows_itself() -> None:
    shown = WIDE.preview(picture(), id_=4, seed=1, epochs=2, ops=["Rotate"])
    assert shown.png() == preview(WIDE, picture(), 4, 1, 2, ops=["Rotate"]).png()
    assert WIDE._repr_html_().startswith("<table>")


def test_scheduled_policies_are_shown_epoch_by_epoch() -> None:
    policy = Policy(subpolicies=[[{"op": "Invert"}]], until=3)
    cells = preview(policy, picture(), 1, epochs=4).samples.cells
    assert [cell.words for cell in cells] == ["Invert", "Invert", "unchanged", "unchanged"]


def test_what_cannot_be_shown() -> None:
    for bad in (np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8), np.zeros((1, 2, 3, 4), np.uint8)):
        with pytest.raises(ValueError, match="give"):
            preview(WIDE, bad, 1)
    with pytest.raises(TypeError, match="int64"):
        preview(WIDE, np.zeros((4, 4), np.int64), 1)
    with pytest.raises(ValueError, match="2 boxes"):
        preview(WIDE, picture(), 1, targets=Targets(boxes=[[], []]))
    with pytest.raises(ValueError, match="works on images"):
        preview(WIDE, "a text", 1)
    with pytest.raises(TypeError, match="lexicon goes with texts"):
        preview(WIDE, picture(), 1, lexicon="x")
    words = of([{"op": "RandomSwap", "magnitude": 0.5}])
    with pytest.raises(ValueError, match="works on texts"):
        preview(words, picture(), 1)


# -------------------------------------------------------------------------------------------- texts


def test_a_text_is_what_apply_texts_gives() -> None:
    from augment.text import apply_texts

    policy, text = of([{"op": "RandomDeletion", "magnitude": 0.6}]), "one two three four five six seven eight"
    shown = preview(policy, text, 7, seed=3, epochs=4)
    for sample in shown.samples:
        assert sample.text == apply_texts(policy, [text], [7], seed=3, epoch=sample.epoch)[0].as_py()
        assert sample.words == "RandomDeletion 30 % of the words"
        kept = "".join(piece.text for piece in difference(text, sample.text) if piece.kind != "deleted")
        assert kept == sample.text
    page = Page(shown.html())
    assert "del" in page.tags
    assert not page.tags & {"script", "img"}
    assert policy.preview(text, 7, seed=3, epochs=4) == shown


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a good film", "a fine film"),
        ("", "new"),
        ("old", ""),
        ("  spaces\tand\nlines ", "spaces and lines"),
        ("今天天气很好", "今天天气不好"),
        ("same", "same"),
        ("x " * 5000, "y " * 5000),
    ],
)
def test_a_difference_loses_nothing(before: str, after: str) -> None:
    pieces = difference(before, after)
    assert "".join(piece.text for piece in pieces if piece.kind != "inserted") == before
    assert "".join(piece.text for piece in pieces if piece.kind != "deleted") == after


def test_texts_cannot_break_the_page_or_the_terminal(tmp_path: Any) -> None:
    shown = TextPreview("mine", "a <b> \x1b[31m\x00", (TextSample(1, "swap", "a <script>alert(1)</script>"),))
    assert "script" not in Page(shown.html()).tags
    assert "a &lt;b&gt;" in shown.html()
    assert "<script" not in shown.html()
    assert "\x00" not in shown.html()
    assert "\x1b" not in shown.terminal()
    assert "\x1b[32m" in shown.terminal(colour=True)
    assert shown.save(tmp_path / "t.html").exists()
    with pytest.raises(ValueError, match=r"saved as \.html"):
        shown.save(tmp_path / "t.png")


def test_a_caption_that_no_font_can_draw_is_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "_of_the_system", lambda _size: ())
    assert letters.lettered("Rotate 12.4\u00b0 \u00b7 x", 11)[0] == "Rotate 12.4\u00b0 \u00b7 x"
    assert letters.lettered("\u7b56 a\U0001f600\n", 11)[0] == "\\u7b56 a\\U0001f600?"
    one, other = (
        preview(Policy(name=name, subpolicies=[[{"op": "Invert"}]]), picture(), 1, epochs=1).png()
        for name in ("\u7b56\u7565", "\u731c\u6d4b")
    )
    assert one != other, "an empty box for each would be the same"


def test_a_font_of_the_machine_draws_what_the_built_in_one_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [font for font in letters._of_the_system(11) if letters._has(font, "\u03a9")]
    if not drawn:
        pytest.skip("no font of this machine has Greek letters")
    said, font = letters.lettered("\u03a9 a", 11)
    assert said == "\u03a9 a"
    assert font in drawn
    assert not letters._has(letters._built_in(11), "\u03a9")
