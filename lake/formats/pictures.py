"""Image files, DICOM files, and the check that an image's bytes do hold one."""

from __future__ import annotations

from lake.formats import dicom
from lake.formats.lines import BrokenStreamError
from lake.formats.rows import BadRowError, Reading, Rows, canonical
from lake.formats.splits import Piece
from lake.formats.whole import contents
from lake.images import BadImageError, decode, header, is_dicom

__all__ = ["check", "take"]


def check(blob: bytes, how: Reading) -> None:
    """Decode the image (or, without ``verify_images``, its header), and refuse it if that fails.

    Raises:
        BadRowError: rule ``corrupt-image``, ``decompression-bomb`` or ``unsupported-image``.
    """
    try:
        if how.verify_images:
            decode(blob, max_pixels=how.max_pixels)
        else:
            header(blob)
    except BadImageError as bad:
        raise BadRowError(bad.rule, bad.reason) from None


def take(piece: Piece, address: str, how: Reading, rows: Rows) -> None:
    """One file as one record, its bytes untouched."""
    file = piece.file
    try:
        blob = contents(address, file.compression, how)
        check(blob, how)
        meta = None
        if is_dicom(blob):
            try:
                meta = canonical(dicom.tags(blob))
            except ValueError as error:  # BadImageError is one
                reason = error.reason if isinstance(error, BadImageError) else "a tag holds no finite number"
                raise BadRowError("corrupt-image", reason) from None
    except BrokenStreamError as broken:
        rows.drop(file.uri, 1, "truncated-file", str(broken.args[0]))
    except BadRowError as bad:
        rows.drop(file.uri, 1, bad.rule, bad.detail)
    else:
        rows.add(file.uri, 1, image=blob, label=file.label, meta=meta, typed=(None,) * len(how.columns))
