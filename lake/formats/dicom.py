"""DICOM: pixels and the tags that identify nobody; needs the extra ``gristmill[dicom]``.

Only the tags in ``SAFE`` ever reach a record's ``meta``: what equipment and geometry say of the
image, nothing that says who, when or where. The file itself is kept as it is, names included.
"""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.errors import InputError
from lake.images import BadImageError, quiet

__all__ = ["SAFE", "count", "pixels", "require", "tags"]

SAFE = (
    "BitsAllocated",
    "BitsStored",
    "BodyPartExamined",
    "Columns",
    "KVP",
    "Modality",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "Rows",
    "SamplesPerPixel",
    "SliceThickness",
    "SpacingBetweenSlices",
    "WindowCenter",
    "WindowWidth",
)
_COLOUR = 3
_BYTE, _WORD = 8, 16


def require() -> ModuleType:
    """Pydicom, or an error that says how to get it.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        what = "DICOM files need pydicom"
        raise InputError(what, why=str(error), hint="pip install 'gristmill[dicom]'") from error
    return pydicom


def _dataset(blob: bytes, *, whole: bool) -> Any:
    pydicom = require()
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        with quiet():
            return pydicom.dcmread(io.BytesIO(blob), stop_before_pixels=not whole)
    except (InvalidDicomError, BytesLengthException, *_BROKEN) as error:
        raise BadImageError(f"DICOM data set broken ({type(error).__name__})") from error


_BROKEN = (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, NotImplementedError, IndexError)


def tags(blob: bytes) -> dict[str, object]:
    """The tags of ``SAFE`` that the file has, as JSON values.

    Raises:
        BadImageError: not a readable DICOM data set.
    """
    data = _dataset(blob, whole=False)
    found: dict[str, object] = {}
    try:
        with quiet():
            for name in SAFE:
                value = data.get(name)
                if value is not None and value != "":
                    found[name] = _plain(value)
    except _BROKEN as error:
        raise BadImageError(f"DICOM tag broken ({type(error).__name__})") from error
    return found


def _plain(value: Any) -> object:
    """Pydicom's numbers (DSfloat, IS, MultiValue) as JSON numbers and lists."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return [_plain(item) for item in value]


def pixels(blob: bytes, *, max_pixels: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """The first frame, stored values: see ``lake.images.decode``.

    Raises:
        BadImageError: broken, too large, or in a compression that nothing installed can read.
    """
    known = tags(blob)
    rows, columns = count(known.get("Rows")), count(known.get("Columns"))
    if rows * columns > max_pixels:
        reason = f"{columns} x {rows} pixels, over the limit of {max_pixels}"
        raise BadImageError(reason, "decompression-bomb")
    if rows < 1 or columns < 1:
        raise BadImageError("DICOM without pixels", "unsupported-image")
    if known.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise BadImageError("DICOM with a colour palette", "unsupported-image")
    data = _dataset(blob, whole=True)
    from pydicom.pixels.utils import pixel_array

    try:
        with quiet():
            frame = pixel_array(data, index=0)
    except RuntimeError as error:  # no decoder for the transfer syntax
        raise BadImageError("DICOM compression that cannot be read here", "unsupported-image") from error
    except _BROKEN as error:
        raise BadImageError(f"DICOM pixel data broken ({type(error).__name__})") from error
    return _stored(frame)


def count(value: object) -> int:
    """A number of rows or columns; 0 where there is none."""
    return value if isinstance(value, int) else 0


def _stored(frame: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    if frame.ndim == 2:  # noqa: PLR2004 (h, w)
        frame = frame[:, :, None]
    if frame.ndim != 3 or frame.shape[2] not in (1, _COLOUR):  # noqa: PLR2004 (h, w, c)
        raise BadImageError(f"DICOM frame of shape {frame.shape}", "unsupported-image")
    if frame.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(frame)
    if frame.dtype == np.int16:
        return (frame.astype(np.int32) + 32768).astype(np.uint16)
    raise BadImageError(f"DICOM pixels of type {frame.dtype}", "unsupported-image")
