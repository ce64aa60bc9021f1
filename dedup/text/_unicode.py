"""What each code point is to the tokenizer, frozen at Unicode 14.0.

The tables are data and not computed from the interpreter's ``unicodedata``: that one knows
more letters with every Python, and a signature must not depend on the Python that made it.
They were made from Unicode 14.0 by the rules in :mod:`dedup.text.shingle`; a test makes them anew.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["ALONE", "EXTEND", "IGNORED", "SEPARATOR", "WORD", "classes", "folds"]

SEPARATOR, WORD, ALONE, EXTEND, IGNORED = range(5)
"""The five classes. What they mean to a token stands in :mod:`dedup.text.shingle`."""

_RUNS = (
    "eNplVQ1sFNcR1ry9mX3ed8su111fdmPt4e6W3NW9q7WHawfdEZlQW+2h1AiZIiyEFDmRElWWkBEibVHBpDVVLFLHrYnrGEwDRCkt6Y8l"
    "oigBTBuUNkqhpZTUSksRadKqxSmhaRok5M6eSX9UjfT2582bmTfzzTfXIY6GIDcEfwVcgq5BaBtk0SBNAr271K10exESbvxhyiNDOYQ5"
    "5F2kfjqo0QmU0Umik6Aw9xq0XAGJ0mDBwjC4zqeDtvYGtOfg4dg16R2N5F0oc6Yh3ZrCz5GkCRgGdVrrwO45KBkumqi2urIkben17QLL"
    "bfd3UNBgNBcuwpflURgVtuyTUZuhYlpvUV4ZaoBCjtcxSYamYdrYklwgY6iKChRKNC0K3EUtIxETpZc1TCuDEd8kalMZXGlRkS+0qOKx"
    "oby0pKVwrcluSjKQ/3G0uJ84spZbi35iCts4GYFtkcNpQzJsw7bsStbLWNJR2IzdnWv8fD2fPclhNu4s5/wqVImDQkiJg/p+vGh+USNn"
    "ULJPxho3Ce88qPqOi36GOAFbKAlsk72Dg0cVZjAbcOrzudg07r0BuhneuTxP8ctg6Kh7+g5e23Tzk5j2dJSBitPOIcDtRq6fD7FkVZ5m"
    "INsvVVO7nIFWPCjm4EGKlzU3ZpfKpebHMo1rVklqc9RJIPRRXQLabZKjOPm8vga8HIF/f9doSvDjnDCtUr/ds+64pgL7qTtULw2B/76w"
    "26PNTul+q2OzUe0kSxqrhsU0LMVGiSpeFm/8iKQ495IWNanvJ95+L8qTICvZSnnFOKS9u9+ARobrCnwBtnuNIyKWo2DygfhebJmEf4I/"
    "DxvydryxeI89AasnRVf1BPQXYvs9UMXoEihrvSUfzlIzMVr8n+izYt5grDCCA04C1mUS1NdFHVgWhbajArfT57fPel8D7wPwGsp8wm/P"
    "dQ6JI7ABXY6aVb3c4mGH2pXjey7Sd8RzTd8Tw9rAuTvGYeoTH8hc1jZK+GEOnxQR3keDpZD+R+R00ohPaEOgv6StOi6vgfWV1kD30l7j"
    "cc000pZ+RtOdO7kCv9FsZ8U0vAs9hyDeD3mq8fOnUDuTPr1bnBG7Z2i2eF68BWrWsEfggXlwZEwHQI1pxgtQVHtS6rTwE8x6j6ynDGVp"
    "u5dFOyg/Ku5Rt2BTOW7uC2wkk2Yhr7Z3Vkch485DV3f7sia9vMJjTHaVMtTCKF02yCi5BTpDJd2Uljp+0VIrPZUxygGnNahfkQPuyp1J"
    "5SXr52ZmtOqg+x6M/1wcXZJ+InUKwqrnc92pk7yki1ieSh2F/Uv6Tgu1T/wMKtme9T2zwqOnmaTW3WasuyeFmgS77kRZ32DGqDDEaAuf"
    "rqmuY/B2qnoFqlNig/F8Ch/DUWAU3EdMTTNQGgd/Fjx/HNQMuHnyLsA4JZElm+4rUHhUVNupVu/628/zYixdGijnHwnoV0DFOcEUQ28A"
    "tzyqQY6DC1soXgf27h8BdwguiyeF26/mgSHe5DrcxYxUK0vFbcys03CIK/Y4GK63bp8oD6hh8IdgWziqXRPfFAuwegGii+AU4lNsmf1J"
    "JpZhjePa2uHshc3OBeCSDrbaI6LWMQFkKmx134T2JZjFT6HaGcXN9gnootiVCgs/AuR9+wZ0O1lHqnZCt79jE+2CSjOeFfWm5SvG0TxU"
    "/LjZ+W/Ck2qR8BIq85sMM8x4z+OI6HP8OEvWfrgBDzCEOEyah9Asbssax/hfr40d8SmYg9UYxY+LYTBrbsUND+iXoXZTO6hV88x/ebb/"
    "pUAapitJGtX4ssirs2yEx43EvSDLr0IknRYsyI4/Q4+NfdfEYaNIL0JeFnDtKHDtzAHZNS+SQGchyCSzJ+LZE+cC/vM0ePztJwGk73cO"
    "6Lj2oddhKFrQjqU2/Fq/9eAftbV/KTQU35yCq40HfimmGiNOdJx7TOOFLXsdNyAsOVVmeHrI33Ld/7G2L/W+yJIcE8vdzlnBnCpxpdH9"
    "+jtQON56AYpf/Z1w9FA39OfUVbA+73z8Retbm/an/E67GMUZo8E5dwLeAnNwwvUyH23Jm+EEOG+jtZf6p1I7D+OzGl0VPGJRJWO2wkUJ"
    "6eWER/P8MsLsmnSGHdJhU+2kncl0/r8lr27CHmdMZG9CC34Gt3qyNsqk+CceHb1myNnwviuvQCYKVezi2fQE4IbL4MYLrSFb556h3+qq"
    "NfwFXGJqcuO/B88IBq1zS1wBqr2qO9w5rMVQ4j51ErLLMfnVSc+6/f9DSb4cSqwmejH1Mn961HuxsfNvX4in8/9YuGts1yuA34Y/aHvw"
    "Bw3/Aj8rlJ4="
)

_FOLDS = (
    "eNo1UU1oE0EU5n0z2WTtJjvb1hIPrcEerIpbKkUFD45QUCSEnLw2e1CEHmrx76atocYf6MXUYqs1VDFr4kGlKCJCRKQH8QcEr7l6UIqC"
    "iJQQ32wozPve45s337yfI6P6HOacLl+nU3poBPviiHvwhuHjF1EcFhYk8FBQDBJ3BQGQi4JRYJkIZWZuRywW2S3zzSP2K4aSUVhj6omI"
    "lFY7iatCdFwk9lzASL/ovEACMkraxB708OHAJL3lHydpF4ZQBJNpfAspynsPwpeQIt1ZVrrB9BxRF2osbgE2vnMFWVjHJaYJ8pLYobu7"
    "9XYgCUU4RBiR6CfswTZWnSCMC1wkXDZ6SPIXwipCZCqktM4PYvcB7McAuXADBNnCel+2MbUTjSmLrW457jUPSwHhDlspIFkMuCqO/xYI"
    "a2xXqzJxou3vtdr+OywQlghnBVoXEOC0cpXjKhUdx/Vs11VuRm0y0oW8xeV4wPUzWxJ1kvAcQ65Ryrgm3yUd2eYWN0xaDXh1XqJ1hedx"
    "c4ZHcNDPZAaBVm+hUDC9/azyzQfu/2OVhNnRSzPRf4Z9Y6LXIUW7hi1bHJ7ERAxx4NNvGobuxwrPQB3GUbOcUih54Emj+rkcEzz3rehF"
    "aT5GuGdg3sCMAeaAB2WOvhp4bKCRIg8K44RZk7Iemo3bgBUDb2nDqtD9pnxWpVHdtPP5p3Qs36C+nDOQU6lcQuZ+JE9NUyWtdaVOWjf+"
    "0NjYf7Sgf3Y="
)

_CODE_POINTS = 0x110000
_FOLD_LIMIT = 0x1E944  # above the last cased letter (Adlam)


def _numbers(blob: str) -> Iterator[int]:
    """Little-endian base-128 numbers, as in Protocol Buffers."""
    value = shift = 0
    for byte in zlib.decompress(base64.b64decode(blob)):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004  (the high bit says that more follows)
            yield value
            value = shift = 0


@cache
def classes() -> npt.NDArray[np.uint8]:
    """The class of every code point: uint8, shape (0x110000,).

    >>> classes()[[ord(" "), ord("a"), ord("漢"), 0x301, 0xAD]].tolist()
    [0, 1, 2, 3, 4]
    """
    starts, kinds = [0], [SEPARATOR]
    for number in _numbers(_RUNS):
        step, kind = divmod(number, 5)
        starts.append(starts[-1] + step)
        kinds.append(kind)
    lengths = np.diff([*starts, _CODE_POINTS])
    table: npt.NDArray[np.uint8] = np.repeat(np.array(kinds, np.uint8), lengths)
    table.flags.writeable = False
    return table


@cache
def folds() -> npt.NDArray[np.int32]:
    """Simple case folding of the code points below 0x1E944: int32; all others stay as they are.

    >>> [chr(folds()[ord(letter)]) for letter in "AÉẞß"]
    ['a', 'é', 'ß', 'ß']
    """
    table = np.arange(_FOLD_LIMIT, dtype=np.int32)
    numbers = _numbers(_FOLDS)
    start = 0
    for step in numbers:
        start += step
        count, wide = divmod(next(numbers), 2)
        zigzag = next(numbers)
        stop = start + count * (1 + wide)
        table[start : stop : 1 + wide] += (zigzag >> 1) ^ -(zigzag & 1)
    table.flags.writeable = False
    return table
