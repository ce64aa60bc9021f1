"""What went wrong at the edges once: one test for each."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

import augment
from augment import Policy, Targets, custom
from augment.engine import cpu
from augment.ops import Applied, find
from augment.policy import Choice
from augment.rng import of_keys

Array = npt.NDArray[Any]
HERE = __name__
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)


@augment.op(magnitude=(0, 1))  # type: ignore[untyped-decorator, unused-ignore]  # gives an op
def brighter(image: Array, _parameter: float, _rng: np.random.Generator, *, by: int = 1) -> Array:
    return image + np.uint8(by)


@augment.op
def anything(image: Array, _parameter: float, _rng: np.random.Generator, **more: int) -> Array:
    return image + np.uint8(more.get("by", 0))


def policy(*choices: Any) -> Policy:
    return Policy.model_validate({"subpolicies": [list(choices)]})


def moved(program: list[Applied], size: tuple[int, int] = (24, 32), **targets: Any) -> Targets:
    found: Targets = cpu.execute(np.zeros((1, *size, 1), np.uint8), [program], targets=Targets(**targets))[1]
    return found


# --- custom ops -----------------------------------------------------------------------------------------


@pytest.fixture
def hasty() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_threads_never_share_a_code() -> None:
    for trial in range(40):
        names = [custom.spell(f"{HERE}.brighter", {"by": 100 * trial + i}) for i in range(8)]
        together = threading.Barrier(len(names))
        codes: dict[str, int] = {}

        def look(name: str, together: threading.Barrier = together, codes: dict[str, int] = codes) -> None:
            together.wait()
            codes[name] = find(name).code

        threads = [threading.Thread(target=look, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(codes.values())) == len(names)
        assert [custom.by_code(codes[name]).name for name in names] == names


def test_an_op_that_is_defined_anew_is_new_with_options_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(image: Array, _parameter: float, _rng: np.random.Generator, *, by: int = 1) -> Array:
        return image + np.uint8(10 * by)

    op = augment.op(_renamed(again, "redefined"))
    monkeypatch.setattr(sys.modules[HERE], "redefined", op, raising=False)
    made = policy({"op": op.name, "options": {"by": 2}})
    zero = np.zeros((1, 4, 4, 3), np.uint8)
    assert made.apply(zero, [1]).max() == 20
    op = augment.op(_renamed(lambda image, _parameter, _rng, by=1: image + np.uint8(by), "redefined"))
    monkeypatch.setattr(sys.modules[HERE], "redefined", op)
    assert made.apply(zero, [1]).max() == 2


def _renamed(function: Any, name: str) -> Any:
    function.__name__ = function.__qualname__ = name
    return function


def test_what_was_compiled_is_the_same_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    made = policy({"op": "Rotate", "magnitude": 0.3}, {"op": f"{HERE}.brighter", "options": {"by": 77}})
    compiled = made.compile([1, 2], size=(24, 32))
    data = pickle.dumps(compiled)
    # As in a process that has met other ops before.
    monkeypatch.setattr(custom, "_known", {})
    monkeypatch.setattr(custom, "_codes", {custom.CODES + i: find("Invert") for i in range(500)})
    again = pickle.loads(data)
    names = [custom.by_code(int(code)).name for code in again.codes[:, -1]]
    assert names == [custom.spell(f"{HERE}.brighter", {"by": 77})] * 2
    assert np.array_equal(again.values, compiled.values)
    assert np.array_equal(again.keys, compiled.keys)


def test_options_are_those_behind_the_three_arguments() -> None:
    with pytest.raises(ValueError, match="takes no option 'image'; it has by"):
        policy({"op": f"{HERE}.brighter", "options": {"image": 1}})
    zero = np.zeros((1, 4, 4, 3), np.uint8)
    assert policy({"op": f"{HERE}.anything", "options": {"by": 3}}).apply(zero, [1]).max() == 3


@pytest.mark.parametrize(
    ("magnitude", "message"),
    [
        ((5, 5), "differ"), ((0, float("nan")), "finite"), ((0,), "two numbers"), ((0, 1, 2), "two numbers"),
        ("ab", "two numbers"),
    ],
)  # fmt: skip
def test_the_magnitude_of_an_op(magnitude: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment.op(magnitude=magnitude)(lambda image, _parameter, _rng: image)


def test_an_op_is_a_function_that_can_be_found() -> None:
    with pytest.raises(ValueError, match="lambda"):
        augment.op(lambda image, _parameter, _rng: image)
    with pytest.raises(TypeError, match="a function, not int"):
        augment.op(3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=r"words.*'\{q\}'"):
        augment.op(magnitude=(0, 1), words="{q}")(brighter.function)


def test_masks_and_points_of_an_op_are_checked() -> None:
    def still(image: Array, _parameter: float, _rng: np.random.Generator) -> Array:
        return image

    op = augment.op(
        mask=lambda mask, _parameter, _rng: mask.astype(float),
        points=lambda points, _parameter, _rng, _size: points[:1],
    )(_renamed(still, "careless"))  # fmt: skip
    program = [Applied(op.name, 0.0)]
    for kind in (np.bool_, np.uint8):
        with pytest.raises(ValueError, match=r"careless made a mask float64 .* an op keeps both"):
            moved(program, masks=[np.ones((24, 32), kind)])
    given: list[dict[str, Any]] = [{"boxes": [[[1, 2, 5, 6]]]}, {"keypoints": [[[1, 2], [3, 4]]]}]
    for targets in given:
        with pytest.raises(ValueError, match=r"careless.* made points of \(1, 2\) of [24] points"):
            moved(program, **targets)


# --- policies -------------------------------------------------------------------------------------------


def test_equal_choices_have_equal_hashes() -> None:
    name = f"{HERE}.anything"
    pairs = [
        ({"op": name, "options": {"a": 1, "by": 2}}, {"op": name, "options": {"by": 2, "a": 1}}),
        ({"op": name, "options": {"a": 1}}, {"op": name, "options": {"a": 1.0}}),
        ({"op": "Rotate", "parameter": 0.0}, {"op": "Rotate", "parameter": -0.0}),
    ]  # fmt: skip
    for one, other in pairs:
        a, b = Choice.model_validate(one), Choice.model_validate(other)
        assert a == b
        assert hash(a) == hash(b)
        assert hash(policy(a)) == hash(policy(b))


@pytest.mark.parametrize(
    ("op", "parameter"),
    [
        ("Jpeg", 0), ("Jpeg", 101), ("Zoom", 0), ("Zoom", -1), ("Crop", 1.0), ("Crop", (0.5, 1.5)),
        ("Crop", -0.1), ("Window", 1.0), ("Downscale", 0), ("Perspective", 0.7), ("MixUp", 2), ("CutMix", -1),
        ("Erase", -0.1), ("Crop", {"epochs": [0, 3], "values": [0.1, 2.0]}),
        ("Jpeg", {"mean": 50, "std": 9, "low": 0}),
        ("Zoom", {"mean": 0, "std": 1}),
    ],
)  # fmt: skip
def test_a_parameter_has_to_make_sense(op: str, parameter: Any) -> None:
    with pytest.raises(ValidationError, match=rf"{op} takes a parameter in "):
        Choice(op=op, parameter=parameter)


def test_a_mirrored_parameter_has_to_make_sense_both_ways() -> None:
    assert Choice(op="Zoom", parameter=3).parameter == 3
    with pytest.raises(ValidationError, match="Zoom takes a parameter in"):
        Choice(op="Zoom", parameter=3, mirrored=True)


def test_a_normal_parameter_is_clipped_to_what_makes_sense() -> None:
    made = policy({"op": "Jpeg", "parameter": {"mean": 3, "std": 40}})
    found = [program[0].parameter for program in made.draw(range(500))]
    assert min(found) == 1
    assert max(found) == 100
    both = Policy.model_validate(
        {"subpolicies": [[{"op": "Zoom", "parameter": {"mean": 1.5, "std": 3}, "mirrored": True}]]}
    )
    found = [program[0].parameter for program in both.draw(range(500))]
    assert min(found) > 0


@pytest.mark.parametrize("options", [None, [1], 3])
def test_bad_options_are_a_validation_error(options: Any) -> None:
    with pytest.raises(ValidationError, match="options"):
        Choice.model_validate({"op": f'{HERE}.brighter{{"by": 3}}', "options": options})
    with pytest.raises(ValidationError, match="options"):
        Choice.model_validate({"op": f"{HERE}.brighter", "options": options})


def test_bad_options_behind_a_name_say_so() -> None:
    with pytest.raises(ValidationError, match=r"the options behind .*brighter are no JSON"):
        Choice(op=f"{HERE}.brighter{{by")


def test_whole_ceilings_give_the_same_policy() -> None:
    base = policy({"op": "Rotate", "magnitude": (0, 1)})
    assert base.with_ceilings({"Rotate": 0}).digest == base.with_ceilings({"Rotate": 0.0}).digest


def test_only_an_op_means_it_with_all_options() -> None:
    base = policy({"op": f"{HERE}.brighter", "options": {"by": 2}, "magnitude": (0, 1)}, {"op": "Invert"})
    assert base.restricted(only=[f"{HERE}.brighter"]).ops == (f'{HERE}.brighter{{"by": 2}}',)
    assert base.restricted(only=["Invert"]).ops == ("Invert",)


@pytest.mark.parametrize("more", [{"seed": 1.5}, {"epoch": 0.5}, {"seed": "1"}])
def test_seeds_and_epochs_are_whole(more: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="whole number"):
        policy({"op": "Invert"}).draw([1], **more)


@pytest.mark.parametrize(
    "more", [{"size": 32}, {"size": (32,)}, {"size": (32, -1)}, {"size": (32, 32), "bits": 12}]
)
def test_sizes_and_bits_are_checked(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\(height, width\)|8 or 16"):
        policy({"op": "Invert"}).compile([1], **more)


def at_the_end(name: str, image: Array) -> Array:
    """What an op does whose draws x and y are both 1, and whose key is 0, pixel by pixel."""
    h, w, _ = image.shape
    made = image.copy()
    if name == "Turn":
        return np.rot90(image, 3 if h == w else 2)
    if name == "ChannelShuffle":
        return image[:, :, ::-1]
    if name == "ChannelDrop":
        made[:, :, 2] = 0
    elif name == "Cutout":
        made[h - 1, w - 1] = 128  # of a square of two pixels all others lie outside
    else:
        u = float(of_keys(np.zeros((1, 4), np.uint32), 1)[0, 0])
        aspect = 1 + (2 * u - 1) * (1 / 0.9 - 1) if u >= 0.5 else 1 / (1 / 0.9 - 2 * u * (1 / 0.9 - 1))
        sx, sy = (0.9 * aspect) ** 0.5, (0.9 / aspect) ** 0.5
        for y, x in np.ndindex(h, w):  # the part ends where the image does
            made[y, x] = image[int(h - (h - y - 0.5) * sy), int(w - (w - x - 0.5) * sx)]
    return made


@pytest.mark.parametrize("name", ["Turn", "ChannelShuffle", "ChannelDrop", "Crop", "Cutout"])
@pytest.mark.parametrize("size", [(24, 24), (24, 32)])
def test_places_at_the_very_end(name: str, size: tuple[int, int]) -> None:
    image = PICTURES[0, :, : size[1]]
    made = cpu.execute(image[None], [[Applied(name, 0.1, 1.0, 1.0)]])
    assert np.array_equal(made[0], at_the_end(name, image))


# --- albumentations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [[1, 2, 3], "ab", 3, [[1], [2, 3]], [1, [2]], [True, 2], [None, 3]])
def test_a_magnitude_of_an_option_is_a_pair(ends: Any) -> None:
    pytest.importorskip("albumentations")
    with pytest.raises(ValidationError, match=r"'clip_limit' of albumentations\.CLAHE: a magnitude goes"):
        Choice(op="albumentations.CLAHE", magnitude=0.5, options={"clip_limit": {"magnitude": ends}})


def test_points_that_a_transform_leaves_out_are_complained_of() -> None:
    pytest.importorskip("albumentations")
    made = policy({"op": "albumentations.ThinPlateSpline"})
    points = [[1.0, 1.0], [20.0, 20.0], [4.0, 1.0], [30.0, 22.0], [31.5, 23.5]]
    many = PICTURES[:1].repeat(20, axis=0)
    with pytest.raises(ValueError, match=r"ThinPlateSpline made points of \(\d, 2\) of 5 points"):
        made.apply(many, range(20), targets=Targets(keypoints=[points] * 20))


def test_whole_numbers_of_an_option_stay_whole() -> None:
    a = pytest.importorskip("albumentations")
    options = {"blur_limit": {"magnitude": [[3, 3], [7, 7]]}}
    made = policy({"op": "albumentations.MedianBlur", "magnitude": 0.4, "options": options})  # 4.6
    expected = a.MedianBlur(blur_limit=(5, 5), p=1)(image=PICTURES[0])["image"]
    assert np.array_equal(made.apply(PICTURES, [1, 2])[0], expected)


def test_a_transform_moves_points_to_the_half_pixel() -> None:
    pytest.importorskip("albumentations")
    targets = Targets(keypoints=[[[1.0, 2.0], [7.25, 3.0]]], boxes=[[[1, 2, 9, 8]]])
    found = policy({"op": "albumentations.HorizontalFlip"}).apply(PICTURES[:1], [1], targets=targets)[1]
    assert np.asarray(found.keypoints[0]).tolist() == [[31.0, 2.0], [24.75, 3.0]]
    assert np.asarray(found.boxes[0]).tolist() == [[23.0, 2.0, 31.0, 8.0]]


# --- the step -------------------------------------------------------------------------------------------


def _table(boxes: Any) -> Any:
    import pyarrow as pa

    from lake.images import encode

    image = encode(np.zeros((9, 12, 3), np.uint8))
    return pa.table({"_id": ["0" * 31 + "7"], "image": pa.array([image], pa.large_binary()), "boxes": boxes})


def test_boxes_in_a_column_of_whole_numbers() -> None:
    import pyarrow as pa

    from augment.apply import Apply

    boxes = pa.array([[[1, 1, 8, 6]]], pa.list_(pa.list_(pa.int64())))
    made = Apply(policy=policy({"op": "Zoom", "parameter": 1.3}), boxes="boxes").apply(_table(boxes)).table
    assert made.schema.field("boxes").type == boxes.type
    assert made.column("boxes")[1].as_py() == [[0, 0, 9, 6]]  # -0.5, -0.05 (cut off), 8.6, 6.45


@pytest.mark.parametrize(
    "fields",
    [
        {"boxes": "x", "keypoints": "x"}, {"mask": "image"}, {"boxes": "_id"}, {"mask": "m", "boxes": "m"},
        {"boxes": "x", "late": True},
    ],
)  # fmt: skip
def test_columns_that_move_are_columns_of_their_own(fields: dict[str, Any]) -> None:
    from augment.apply import Apply

    with pytest.raises(
        ValidationError, match=r"columns of their own|leaves the images to the loader: name x there"
    ):
        Apply(**fields)


# --- pickles, partners ----------------------------------------------------------------------------------


def test_programs_bring_their_module_with_them(tmp_path: Path) -> None:
    (tmp_path / "far_ops.py").write_text(
        "import augment\n@augment.op\ndef dark(image, parameter, rng): return image // 2\n"
    )
    code = """
import pickle, far_ops
from augment import Policy
policy = Policy.model_validate({'subpolicies': [[{'op': 'far_ops.dark'}]]})
open('made.pickle', 'wb').write(pickle.dumps((policy.draw([1]), policy.compile([1], size=(4, 4)))))
"""
    again = (
        "import pickle, numpy as np; from augment.engine import cpu;"
        "a, b = pickle.load(open('made.pickle', 'rb'));"
        "i = np.full((1, 4, 4, 3), 8, np.uint8); print(cpu.execute(i, a).max(), b.run(i).max())"
    )
    for each, said in ((code, ""), (again, "4 4")):
        done = subprocess.run(
            [sys.executable, "-c", each], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr[-500:]


def test_partners_are_asked_for_whatever_is_drawn() -> None:
    made = policy({"op": "MixUp", "magnitude": 0.5, "probability": 0.0})
    with pytest.raises(ValueError, match="MixUp mixes an image with another one: give partners="):
        made.apply(PICTURES, [1, 2])
    assert made.model_copy(update={"until": 3}).apply(PICTURES, [1, 2], epoch=3).shape == PICTURES.shape


# --- other processors -----------------------------------------------------------------------------------


TABLES = """
import sys
import numpy as np
from augment.engine import _kernels
rng = np.random.default_rng(7)
for channels in (1, 3):
    image = rng.integers(0, 256, (33, 47, channels), np.uint8)
    tables = rng.integers(0, 256, (channels, 256), np.uint8)
    found = np.empty_like(image)
    _kernels._look_up(image, tables, found)
    assert np.array_equal(found, np.stack([tables[k][image[..., k]] for k in range(channels)], axis=-1))
    np.save(f"{sys.argv[1]}-{channels}.npy", found)
"""
POLICIES = """
import sys
import numpy as np
from augment import presets
images = np.random.default_rng(7).integers(0, 256, (24, 33, 47, 3), np.uint8)
for name in ("trivial_augment_wide", "autoaugment"):
    np.save(f"{sys.argv[1]}-{name}.npy", presets.preset(name).apply(images, range(24), seed=3))
"""


# What the kernels do otherwise there is to look up; to compile them all takes half a minute.
@pytest.mark.parametrize(
    ("code", "names"),
    [
        pytest.param(TABLES, ["1", "3"], id="tables"),
        pytest.param(POLICIES, ["trivial_augment_wide", "autoaugment"], id="policies", marks=pytest.mark.soak),
    ],
)
def test_the_same_bytes_without_the_instructions_of_this_processor(
    tmp_path: Path, code: str, names: list[str]
) -> None:
    """The kernels look up 64 values at once where AVX-512 VBMI is there: here they are told it is not."""
    plain = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path / "kernels"),
    }
    for name, more in (("here", {}), ("elsewhere", plain)):
        command = [sys.executable, "-P", "-c", code, str(tmp_path / name)]
        subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, **more})
    for name in names:
        here, elsewhere = (np.load(tmp_path / f"{each}-{name}.npy") for each in ("here", "elsewhere"))
        assert np.array_equal(here, elsewhere)
