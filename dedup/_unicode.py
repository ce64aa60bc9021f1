"""What each code point is to the tokenizer, frozen at Unicode 14.0.

The tables are data and not computed from the interpreter's ``unicodedata``: that one knows
more letters with every Python, and a signature must not depend on the Python that made it.
They were made from Unicode 14.0 by the rules in :mod:`dedup.shingle`; a test makes them anew.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["ALONE", "EXTEND", "IGNORED", "SEPARATOR", "WORD", "ascii_table", "classes", "folds"]

SEPARATOR, WORD, ALONE, EXTEND, IGNORED = range(5)
"""The five classes. What they mean to a token stands in :mod:`dedup.shingle`."""

_RUNS = (
    "eNplVQ1sFNcR1ry9mX3ed8su111fdmPt4e6V3Mm9q7WHew66IzIhttpDqRGyi7AQUuRESlRZQkaItEUFk9ZUsUgdtyauYzANEKW0pD+W"
    "iKIEsNugtFEKLaWkVlqKSJNWLU4JTdMgIXf2TPqjaqS3P2/ezLyZb765DlF2CDJD8FfAZegahLZBFg3SJNB7y91Kl5dFwk0/THhkKIcw"
    "g7yL1E+HNDqJMnuK6BQozLwOLVdAojRYMD8MrnNf0FZuQHseHolck97VSN6FMmMa0q0p/BxJmoBhUGe0duyah6LhoolqmyuL0pZe326w"
    "3LK/k4IGozl/Eb4sj8GosGWfzLYZKqKNFuWUoQYo5Hgdk2RoGqaNLfEFUoaqqEChRNOiwF3SMmIxUXppw7RSmOWbZNtUCldbVOALLal4"
    "bCgnLWkpXG+ym6IM5H8cLe3HjqyV1pKfiMI2TkZgW+Rw2pAM27Atu5L2UpZ0FDZjV8c6P1fPZ3d8mI07Kzm/ClXsIB9S7KC+Hy2ZX9LI"
    "GBTvk7HOjcM7D6q+46KfIk7AVooD22zv5OBRhSlMB5z6XCYyjXtvgG6Gd67MUfQKGDrqnr6T1zbd/BQmPR1loKKkcxhwh5Hp50MsaZWj"
    "GUj3S9VUljPQiofEPDxE0YrmxvRyudz8RKpx3RpJbY46BYQ+qktAe0xyFCef19eBl6Pw7+8aTQl+nBOmVey3uzec0FRgP32H6qEh8D8Q"
    "djm7xSk+YLVvMaodZEljzbCYhuXYKFFFK6JNH5MUZV7Wsk3q+7G334vSJMhKulJaNQ5J7+43oZHhugpfhB1e44iI5CiYfCC6F1sm4Z/g"
    "L0Bvzo42Fe6xJ2DtpOisnoT+fGS/D6qQvQTK2mjJR9LUTIwW/yf6rFgwGCuM4ICTgHWZBPV1UQeWRaHtqMDt8Pnts97XwPsQvIYSn/DL"
    "mY4hcRR60eWoWdXLLB12qKwc33ORviOeb/qeGNYGzt0xDlOf/FBm0rZRxI9y+JTI4v00WAzpf0ROx434pDYE+svamhPyGlhfaQ10L+k1"
    "ntBMI2npc5ru3MkV+I1mO6um4T3oPgzRAchRjZ8/hdpc8sweMSf2zNBs4bx4G9SsYY/AgwvgyIgOghrTjBehoPYm1Bnhx5j1Ht1IKUrT"
    "Di+NdlB6TNyjbsHmUtTcF9hIJs1CTu3oqI5Cyl2Azq7yiia9tMpjTHYWU9TCKF0xyCi5BTpDJdmUlDp+0VKrPZUySgGnNahfkQPuzMwl"
    "cpL1MzMzWnXQfR/Gfy6OLUs+mTgNYdXzue7UQV7cRSxPJ47BgWV9Z4TaL34GlXT3xu5Z4dEzTFIbbjPW3ZNCTYJdd6KsbzBjVBhitJVP"
    "11TncXgnUb0C1SnRa7yQwMdxFBgF9xNT0wwUx8GfBc8fBzUDbo68CzBOcWTxpvsq5B8T1TLV6l1/+3lejCWLA6XcowH9CqgwL5hi6E3g"
    "lkc1yHFwYfOF68De/aPgDsFl8ZRw+9UCMMSbXIe7mJFqpamwnZl1Gg5zxZ4Aw/U27BelATUM/hBsD0e1a+KbYhHWLkL2Ijj56DRbZn+S"
    "iWVY47i2tTv7YItzAbikg632iKi1TwCZClvdt6C8DNP4aVS7slGzfRI6KXKlwvyPAHnfvgFdTtqRqkzo9rdvpt1Qacazot60fMUouwAV"
    "P2p2/pvwpFoivJjK/CbDDFPeCzgi+hw/SpN1AG7AgwwhDpMWIDQL29PGcf7XY2N7dBrmYS1moyfEMJg1t+KGB/XLULupHdKqOea/HNv/"
    "UiAN05UkjWp0WeTUWTbC40biPpCl1yArnRbMy/Y/Q7eNfdfEEaNAL0FO5nH9KHDtzAHZuSDiQGchSMWzJ8uzJ8oE/OcZ8PjbjwNIPuAc"
    "1HH9w2/AUHZRO57o/bV+66E/auv/km8ovDUFVxsP/lJMNWY50VHmcY0Xtuy134Cw6FSZ4elhf+t1/8fa/sQHIk1yTKx0O+aEoUtcbXS9"
    "8S7kT7RegMJXfyccPdQN/Xl1FazPO/mXrG9tPpDwO+xCNkoZDc65k/A2mIMTrpf6eEvODCfAeQetfdQ/ldh1BJ/T6KrgCYsqnrIVrklI"
    "r8Q0muOXESbXuDHskI6Yahftiofz/y05dRP2OmMifRNa8DO4zZO1UebEP/Hk6DFDTob3XXkFUtlQRS6eTU4A9l4GN1psDdk6twz9Vlet"
    "4S/gEjOTG/09eFYwZp1b4gpQ7TXd4cZhLUYSt6kTc12Gua/Oedbt/x9J/OVQbDXWi6iH6dOjnouNHX/7QjSd+8fiXWO7XwX8NvxB24s/"
    "aPgX7RaUnA=="
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

    >>> [chr(folds()[ord(letter)]) for letter in "AÉΣẞß"]
    ['a', 'é', 'σ', 'ß', 'ß']
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


@cache
def ascii_table() -> npt.NDArray[np.uint8]:
    """For each byte: 0 where it separates, the folded letter or digit, or 255 for a byte above ASCII."""
    table = np.full(256, 255, np.uint8)
    table[:128] = np.where(classes()[:128] == WORD, folds()[:128], 0)
    table.flags.writeable = False
    return table
