"""What a job takes along: our code, the configuration, the user's plugins. Never data, never secrets.

Ray would install a wheel among ``py_modules`` by pip, with everything that it depends on, anew on every node
(600 MB, from an index that a cluster may not reach). So the four packages travel as the files that the wheel
would hold, in a zip named by its content: a second submit finds it in the cluster. Dependencies belong to the
image of the cluster, or to ``pip`` in a runtime environment; the preflight says what is missing.
"""

from __future__ import annotations

import hashlib
import io
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from lake.errors import ConfigError
from pipeline.doctor import DISTRIBUTION, PACKAGES

__all__ = ["CONFIG", "PROBE", "Package", "code", "requirements", "workdir"]

CONFIG = "gristmill.yaml"
"""Name of the configuration in the job's working folder."""
PROBE = "gristmill_probe.py"
"""Name of the probe there."""

_SAMPLES = ("pipeline", "configs")  # for `gristmill init`, which no job calls
_MOST = 64 << 20  # bytes; the head keeps packages in memory


@dataclass(frozen=True)
class Package:
    """A zip file, named by its content."""

    data: bytes

    @property
    def name(self) -> str:
        """As Ray's own client names packages; the cluster removes those that no job needs any more."""
        return f"_ray_pkg_{hashlib.blake2b(self.data, digest_size=16).hexdigest()}.zip"

    @property
    def uri(self) -> str:
        """As a runtime environment names it."""
        return f"gcs://{self.name}"


def code() -> Package:
    """The packages of this installation, be it a wheel or an editable checkout."""
    import pipeline

    root = Path(pipeline.__file__).parent.parent
    files = [
        (each.relative_to(root).as_posix(), each.read_bytes())
        for package in PACKAGES
        for each in _files(root / package)
        if each.relative_to(root).parts[:2] != _SAMPLES
    ]
    return _zipped([*files, *_described()])


def requirements() -> list[str]:
    """What this version needs of a cluster: its dependencies, and Ray."""
    try:
        found = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    # What an editable install needs to find its files is no business of a cluster.
    plain = [each for each in found if "extra ==" not in each and not each.startswith("editables")]
    ray = [name.strip() for name, _, extra in (each.partition(";") for each in found) if "ray" in extra]
    return sorted([*plain, *ray])


def workdir(config: str | None, plugins: Iterable[str], ship: Iterable[str | Path] = ()) -> Package:
    """The job's working folder.

    Args:
        config: text of the configuration, unless the job reads it where it lies.
        plugins: names of modules; those of your own (not installed by pip) are taken along.
        ship: further files and folders of modules.

    Raises:
        ConfigError: one is not there, hides a package of ours, or all together are too large.
    """
    from pipeline.jobs import probe

    files = [(PROBE, Path(probe.__file__).read_bytes())]
    if config is not None:
        files.append((CONFIG, config.encode()))
    for place in dict.fromkeys([*_own(plugins), *(Path(each).absolute() for each in ship)]):
        if not place.exists():
            raise ConfigError("cannot be shipped: there is no such file or folder", where=str(place))
        if place.stem in PACKAGES:
            why = f"it would hide Gristmill's own package {place.stem!r} from the job"
            raise ConfigError("cannot be shipped", where=str(place), why=why, hint="give it another name")
        files += [(each.relative_to(place.parent).as_posix(), each.read_bytes()) for each in _files(place)]
    size = sum(len(data) for _, data in files)
    if size > _MOST:
        largest = max(files, key=lambda file: len(file[1]))[0]
        why = f"{size >> 20} MiB; the largest file is {largest}; at most {_MOST >> 20} MiB go along with a job"
        raise ConfigError(
            "the plugins are too large to ship", why=why, hint="install them in the cluster's image"
        )
    return _zipped(files)


def _own(plugins: Iterable[str]) -> Iterator[Path]:
    """The files or folders of those plugins that pip did not install."""
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib")]
    for name in dict.fromkeys(each.partition(".")[0] for each in plugins):
        spec = find_spec(name)
        places = [] if spec is None else spec.submodule_search_locations or [spec.origin or ""]
        for place in map(Path, places):
            if name not in PACKAGES and not any(place.resolve().is_relative_to(each) for each in installed):
                yield place.absolute()


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for each in sorted(place.rglob("*")):
        if each.is_file() and each.suffix != ".pyc" and not _skipped(each.relative_to(place).parts):
            yield each


def _skipped(parts: Iterable[str]) -> bool:
    """Caches, histories and what is hidden: keys lie in `.env` and `.aws`, and no module does."""
    return any(part.startswith(".") or part == "__pycache__" for part in parts)


def _described() -> Iterator[tuple[str, bytes]]:
    """The metadata of the distribution, so that the job can tell what it is made of."""
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return
    text = found.read_text("METADATA")
    if text:
        yield f"{DISTRIBUTION}-{found.version}.dist-info/METADATA", text.encode()


def _zipped(files: Iterable[tuple[str, bytes]]) -> Package:
    """The same bytes for the same files, whoever packs them and when."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            out.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return Package(buffer.getvalue())
