"""FOLDER tensor|pillow: seconds an image of torchvision v2's policies and, on tensors, its ops, one by one."""

import sys

import torch

# A wheel for GPUs does not find its libraries on a machine without one: its two compiled ops are declared.
library = torch.library.Library("torchvision", "DEF")
try:
    from torchvision.transforms import v2
except RuntimeError:
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    from torchvision.transforms import v2

import json  # noqa: E402
from pathlib import Path  # noqa: E402
from time import process_time  # noqa: E402

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision.transforms.v2 import functional as F  # noqa: E402, N812

torch.set_num_threads(1)
folder = Path(sys.argv[1])
given = np.load(folder / "images.npy")
if sys.argv[2] == "tensor":
    images = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in given]
else:
    images = [Image.fromarray(image) for image in given]

POLICIES = {
    "TrivialAugment Wide": v2.TrivialAugmentWide(),
    "AutoAugment ImageNet": v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
    "RandAugment(2, 9)": v2.RandAugment(2, 9),
}
STILL = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
OPS = {
    "ShearX": lambda x: F.affine(x, **{**STILL, "shear": [20.0, 0.0]}, center=[0, 0]),
    "ShearY": lambda x: F.affine(x, **{**STILL, "shear": [0.0, 20.0]}, center=[0, 0]),
    "TranslateX": lambda x: F.affine(x, **{**STILL, "translate": [16, 0]}),
    "TranslateY": lambda x: F.affine(x, **{**STILL, "translate": [0, 16]}),
    "Rotate": lambda x: F.rotate(x, 40.0),
    "Brightness": lambda x: F.adjust_brightness(x, 1.4),
    "Color": lambda x: F.adjust_saturation(x, 1.4),
    "Contrast": lambda x: F.adjust_contrast(x, 1.4),
    "Sharpness": lambda x: F.adjust_sharpness(x, 1.4),
    "Posterize": lambda x: F.posterize(x, 4),
    "Solarize": lambda x: F.solarize(x, 128.0),
    "AutoContrast": F.autocontrast,
    "Equalize": F.equalize,
    "Invert": F.invert,
}

seconds = {}
for name, run in {**POLICIES, **(OPS if sys.argv[2] == "tensor" else {})}.items():
    times = []
    for _ in range(2):
        torch.manual_seed(1)
        start = process_time()
        for image in images if name in POLICIES else images[:64]:
            run(image)
        times.append((process_time() - start) / (len(images) if name in POLICIES else 64))
    seconds[name] = min(times)
print(json.dumps(seconds))
