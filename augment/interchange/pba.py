"""Schedules of Population Based Augmentation (Ho et al., ICML 2019): a policy that changes over the epochs.

The format: a list of (epochs, [(op, probability, magnitude), ...]), magnitudes 0 .. 10, each part lasting that
long. What it does to an image was read in PBA's ``augmentation_transforms_hp.py`` (Apache-2.0): with the
probabilities 0.2, 0.3 and 0.5 it wants 0, 1 or 2 ops; it goes through the list in random order, carries each
out with its probability, and stops when it has as many as it wants. That is the same as one draw from all
sequences of up to two ops, each weighted with the probability that it comes about, and so it is written here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from augment.interchange.errors import InterchangeError
from augment.interchange.numbers import one_bit, tidy
from augment.interchange.tuples import Triple, triples
from augment.ops import OPS
from augment.policy import Policy
from augment.policy.choices import Choice, SubPolicy
from augment.policy.schedule import Schedule

__all__ = ["SIDE", "load"]

_WANTED = (0.2, 0.3, 0.5)  # how often none, one, two ops are wanted
_TOP = 10
SIDE = 32
"""Of PBA's images, in pixels."""
Slot = tuple[str, int]  # an op and how many of it came before in the list
Parts = list[tuple[int, dict[Slot, Triple]]]


def load(data: object, *, side: int = SIDE) -> Policy:
    """A PBA schedule.

    Args:
        data: the list of (epochs, [(op, probability, magnitude), ...]).
        side: of the images: PBA's translations and Cutouts are in pixels, and its images have 32.

    Raises:
        InterchangeError: it is none, or has an op that PBA does not have.

    >>> policy = load([(10, [("Rotate", 1.0, 3)]), (20, [("Rotate", 1.0, 9)])])
    >>> policy.at(0).subpolicies[1].choices[0].magnitude, policy.at(10).subpolicies[1].choices[0].magnitude
    (0.3, 0.9)
    """
    parts = _parts(data)
    lasting = [epochs for epochs, _ in parts]
    weights = [_weights(chances) for _, chances in parts]
    subpolicies = []
    for sequence in dict.fromkeys(key for part in weights for key in part):
        weight = [part.get(sequence, 0.0) for part in weights]
        if max(weight) == 0:
            continue
        choices = tuple(_over(lasting, parts, slot, side) for slot in sequence)
        subpolicies.append(
            SubPolicy(choices=choices or (Choice(op="Identity"),), weight=_scheduled(lasting, weight))
        )
    return Policy(name="pba", subpolicies=tuple(subpolicies), bins=None, space="autoaugment")


def _parts(data: object) -> Parts:
    if not isinstance(data, Sequence) or isinstance(data, str) or not data:
        raise InterchangeError("a PBA schedule is a list of (epochs, [(op, probability, magnitude), ...])")
    made: Parts = []
    for part in data:
        match part:
            case [int(epochs), [*ops]] if epochs > 0 and ops:
                seen: Counter[str] = Counter()
                slots: dict[Slot, Triple] = {}
                for triple in triples([ops])[0]:
                    slots[triple[0], seen[triple[0]]] = triple
                    seen[triple[0]] += 1
                made.append((epochs, slots))
            case _:
                raise InterchangeError(f"{part!r} is not (epochs, [(op, probability, magnitude), ...])")
    return made


def _weights(chances: dict[Slot, Triple]) -> dict[tuple[Slot, ...], float]:
    """How often each sequence of up to two slots comes about.

    Put the list in random order by giving each slot a uniform time. That slot i is carried out first, at t,
    takes its own chance p and that no other was carried out before: p times the product of 1 - p_j t.
    Polynomials of such a degree are integrated exactly by Gauss's rule with half as many nodes.
    """
    slots = list(chances)
    p = np.array([chances[slot][1] for slot in slots])
    nodes, shares = np.polynomial.legendre.leggauss(len(slots) // 2 + 2)
    t, dt = (nodes + 1) / 2, shares / 2
    waits = 1 - p[:, None] * t

    def others(*taken: int) -> npt.NDArray[np.float64]:
        made: npt.NDArray[np.float64] = np.prod(np.delete(waits, taken, axis=0), axis=0)
        return made

    found: dict[tuple[Slot, ...], float] = {(): _WANTED[0] + (1 - _WANTED[0]) * float(np.prod(1 - p))}
    for i, one in enumerate(slots):
        first = p[i] * float(np.sum(dt * others(i)))
        alone = p[i] * float(np.prod(np.delete(1 - p, i)))
        found[one,] = _WANTED[1] * first + _WANTED[2] * alone
        for k, two in enumerate(slots):
            if k != i:
                found[one, two] = _WANTED[2] * p[i] * p[k] * float(np.sum(dt * t * others(i, k)))
    return {sequence: round(weight, 12) for sequence, weight in found.items()}


def _over(lasting: list[int], parts: Parts, slot: Slot, side: int) -> Choice:
    """The op of a slot over all parts; where a part lacks it, its weights are 0 and any magnitude will do."""
    known = {place: _choice(part[slot], side) for place, (_, part) in enumerate(parts) if slot in part}
    first = next(iter(known.values()))
    values = [known.get(place, first).extent for place in range(len(parts))]
    scheduled = _scheduled(lasting, [value for value in values if isinstance(value, float)])
    field = "magnitude" if first.parameter is None else "parameter"
    return first.model_copy(update={field: scheduled}) if OPS[first.op].has_magnitude else first


def _scheduled(lasting: list[int], values: list[float]) -> float | Schedule:
    if len(set(values)) == 1:
        return values[0]
    merged: list[tuple[int, float]] = []
    for epochs, value in zip(lasting, values, strict=True):
        if merged and merged[-1][1] == value:
            merged[-1] = (merged[-1][0] + epochs, value)
        else:
            merged.append((epochs, value))
    return Schedule.lasting(merged)


_LINES: Mapping[str, Callable[[float, int], float]] = {
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), lambda m, _: tidy(0.1 + 1.8 * m / _TOP)),
    "Posterize": lambda m, _: one_bit(4 - int(4 * m / _TOP), "Posterize"),
    "Solarize": lambda m, _: 256 - int(256 * m / _TOP),
    "Cutout": lambda m, side: tidy(int(20 * m / _TOP) / side),
}
_MIRRORED: Mapping[str, Callable[[float, int], float]] = {
    **dict.fromkeys(("ShearX", "ShearY"), lambda m, _: 0.3 * m / _TOP),
    "Rotate": lambda m, _: int(30 * m / _TOP),
    **dict.fromkeys(("TranslateX", "TranslateY"), lambda m, side: int(m) / side),
}


def _choice(triple: Triple, side: int) -> Choice:
    name, _, m = triple
    if not 0 <= m <= _TOP:
        raise InterchangeError(f"{name}: a magnitude of PBA lies in 0 .. {_TOP}, not {m}")
    if name in {"AutoContrast", "Equalize", "Invert"}:
        return Choice(op=name)
    if name in _LINES:
        return Choice(op=name, parameter=_LINES[name](m, side))
    if name in _MIRRORED:
        return Choice(op=name, magnitude=tidy(_MIRRORED[name](m, side) / OPS[name].range("autoaugment").full))
    raise InterchangeError(f"{name}: PBA has no such op")
