"""The ops of AutoAugment against torchvision's, as its own policies carry them out on Pillow images."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from augment.engine import cpu
from augment.ops import Applied

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
if not find_spec("torchvision"):
    pytest.skip("torchvision is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def apply_op():
    """``torchvision.transforms.autoaugment._apply_op``, which its policies call.

    A wheel for GPUs does not find its compiled ops without one: they are declared, and never called here.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        module = import_module("torchvision.transforms.autoaugment")
    except RuntimeError:
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        module = import_module("torchvision.transforms.autoaugment")
    yield partial(module._apply_op, interpolation=module.InterpolationMode.NEAREST, fill=None)
    del library


GEOMETRY = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
BLENDS = ("Brightness", "Color", "Contrast", "Sharpness")
FULL = {"Shear": 0.99, "Translate": 32.0, "Rotate": 135.0}
LUTS = {"Posterize": range(1, 9), "Solarize": np.linspace(255, 0, 11), "AutoContrast": [0], "Equalize": [0]}


def magnitudes(name: str) -> list[float]:
    if name in LUTS:
        return [float(each) for each in LUTS[name]]
    full = next((most for start, most in FULL.items() if name.startswith(start)), 0.99)
    return [sign * full * step / 10 for step in range(11) for sign in (1, -1)]


@pytest.mark.parametrize("name", [*GEOMETRY, *BLENDS, *LUTS])
@pytest.mark.parametrize("shape", [(32, 32, 3), (41, 57, 3), (28, 28, 1)])
def test_the_bytes_are_torchvisions(apply_op, name: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng([*shape, len(name)])
    ramp = np.add.outer(np.arange(shape[0]) * 2, np.arange(shape[1]) * 3)[..., None]
    smooth = (ramp + rng.integers(0, 40, shape)) % 256
    for pixels in (rng.integers(0, 256, shape, dtype=np.uint8), smooth.astype(np.uint8)):
        image = Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels)
        for magnitude in magnitudes(name):
            wanted = np.asarray(apply_op(image, op_name=name, magnitude=magnitude)).reshape(shape)
            parameter = 1.0 + magnitude if name in BLENDS else magnitude
            found = cpu.execute(pixels[None], [[Applied(name, parameter)]])[0]
            assert np.array_equal(found, wanted), f"{name} {magnitude}: {(found != wanted).sum()} values differ"
