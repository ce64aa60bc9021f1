"""FOLDER SIZE: seconds an image of kornia's policies on float32 batches of SIZE (one draw a batch)."""

import json
import sys
from pathlib import Path
from time import process_time

import numpy as np
import torch
from kornia.augmentation.auto import AutoAugment, RandAugment, TrivialAugment

torch.set_num_threads(1)
images = torch.from_numpy(np.load(Path(sys.argv[1]) / "images.npy")).permute(0, 3, 1, 2).contiguous() / 255.0
batches = images.split(int(sys.argv[2]))
POLICIES = {
    "TrivialAugment Wide": TrivialAugment(),
    "AutoAugment ImageNet": AutoAugment("imagenet"),
    "RandAugment(2, 9)": RandAugment(n=2, m=9),
}

seconds = {}
for name, run in POLICIES.items():
    times = []
    for _ in range(2):
        torch.manual_seed(1)
        start = process_time()
        for batch in batches:
            run(batch)
        times.append((process_time() - start) / len(images))
    seconds[name] = min(times)
print(json.dumps(seconds))
