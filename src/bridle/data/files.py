"""Where the files of a data set are looked for, how they are checked, and how they are fetched when asked.

A folder given by the user is the only one looked in. Without one it is the folder that ``BRIDLE_DATA`` names, then the
cache. Nothing is downloaded unless that was asked for.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridle.errors import DataError

__all__ = ["Published", "cache_folder", "check_md5", "fetch", "locate"]


@dataclass(frozen=True)
class Published:
    """The files of a data set, as their authors publish them.

    Arguments:
        name: The data set's name, for messages.
        folder: The folder that holds the files, as a path below the root: ``MNIST/raw``.
        files: The names of the files that are needed, without a suffix for compression.
        suffixes: What may be appended to each name, the preferred one first: ``("", ".gz")``.
        md5: The checksum of each file, by its name with its suffix; a file without an entry is not checked.
        urls: The checksum of each download, by its address: files or ``.tar.gz`` archives of them. Empty when the
            files cannot be fetched by a program.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    suffixes: tuple[str, ...] = ("",)
    md5: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)


def cache_folder() -> Path:
    """The folder for what can be fetched or made again: ``BRIDLE_CACHE``, or ``~/.cache/bridle``."""
    return Path(os.environ.get("BRIDLE_CACHE") or "~/.cache/bridle").expanduser()


def locate(published: Published, root: str | None = None, download: bool = False) -> list[Path]:
    """The paths of ``published.files``, in their order, each checked.

    All of them lie in one folder: a root itself, or a folder below it as ``published.folder`` says, whole
    (``root/MNIST/raw``) or in its last parts (``root/raw``).

    Arguments:
        published: The files.
        root: The only folder to look in; None looks in the one that ``BRIDLE_DATA`` names, then in the cache.
        download: Fetch the files if they are not there: below ``root`` where it is given, else into the cache.

    Raises:
        DataError: A file is absent, damaged, or cannot be fetched.
    """
    roots = [Path(root).expanduser()] if root else [*_data_folder(), cache_folder()]
    target = roots[-1] / published.folder
    found = _best(published, roots)
    if len(found) < len(published.files) and download and published.urls:
        fetch(published, target)
        found = _best(published, roots)
    if len(found) < len(published.files):
        raise DataError(_absent(published, roots, found, target))
    for path in found.values():
        if path.name in published.md5:
            check_md5(path, published.md5[path.name])
    return [found[name] for name in published.files]


def check_md5(path: Path, expected: str) -> None:
    """Refuses a file whose MD5 checksum is not the published one.

    Raises:
        DataError: The checksum is another, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if actual != expected:
        raise DataError(
            f"{path} ({path.stat().st_size:,} bytes) is damaged, incomplete or another file: its md5 is {actual}, "
            f"the official one {expected}; delete it and put the official file there"
        )


def fetch(published: Published, folder: Path) -> None:
    """Downloads the files into ``folder``; each appears there whole, or not at all.

    Raises:
        DataError: There is no connection, a checksum is wrong, or the disk is full.
    """
    # Imported here because nearly every command downloads nothing.
    import pooch
    import requests

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # In a folder of its own and then renamed, so that processes that download at once never see half a file.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            for url, md5 in published.urls.items():
                unpack = pooch.Untar() if url.endswith(".tar.gz") else None
                pooch.retrieve(url, f"md5:{md5}", fname=url.rsplit("/", 1)[-1], path=scratch, processor=unpack)
            wanted = {name + suffix for name in published.files for suffix in published.suffixes}
            for path in sorted(Path(scratch).rglob("*")):
                if path.name in wanted:
                    path.replace(folder / path.name)
    except (OSError, ValueError) as error:  # requests raises subclasses of OSError, pooch ValueError for a checksum
        offline = isinstance(error, requests.ConnectionError | requests.Timeout)
        reason = "no connection" if offline else " ".join(str(error).split())
        raise DataError(
            f"{published.name} cannot be downloaded into {folder}: {reason}; try again later, "
            f"or put these files there yourself: {', '.join(published.files)}"
        ) from error


def _data_folder() -> list[Path]:
    named = os.environ.get("BRIDLE_DATA")
    return [Path(named).expanduser()] if named else []


def _best(published: Published, roots: list[Path]) -> dict[str, Path]:
    """The files found, by name, in the first of the folders that hold the most of them."""
    parts = Path(published.folder).parts
    folders = [root.joinpath(*parts[i:]) for root in roots for i in range(len(parts), -1, -1)]
    return max((_present(published, folder) for folder in folders), key=len)


def _present(published: Published, folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in published.files:
        for suffix in published.suffixes:
            path = folder / (name + suffix)
            if name not in found and path.is_file():
                found[name] = path
    return found


def _absent(published: Published, roots: list[Path], found: dict[str, Path], target: Path) -> str:
    """What was expected where, and what to do."""
    missing = ", ".join(name for name in published.files if name not in found)
    packed = "".join(f", each also as {suffix}" for suffix in published.suffixes if suffix)
    where = (
        f"beside {next(iter(found.values()))}"
        if found
        else f"under {' or '.join(map(str, roots))} (there or in {published.folder})"
    )
    remedy = f", or --data.download true to fetch them into {target}" if published.urls else ""
    return (
        f"{published.name}: not found {where}: {missing}{packed}; "
        f"give the folder that holds them by --data.root or BRIDLE_DATA{remedy}"
    )
