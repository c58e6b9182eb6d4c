"""Where files are looked for, and how they are fetched: from a server of this machine's own."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bridle.data import CIFAR10, MNIST
from bridle.data import cifar10 as cifar10_module
from bridle.data import mnist as mnist_module
from bridle.data.files import Published, cache_folder, check_md5, locate

Refused = Callable[..., AbstractContextManager[None]]
Write = Callable[[Path, dict[str, bytes]], Path]

TWO = Published("Two", "Two/raw", ("a", "b"), suffixes=("", ".gz"))


@pytest.mark.parametrize("below", ["", "raw", "Two/raw"])
def test_root_is_the_folder_or_holds_it(tmp_path: Path, nowhere: Path, write: Write, below: str) -> None:
    folder = write(tmp_path / "data" / below, {"a": b"", "b.gz": b""})
    assert locate(TWO, str(tmp_path / "data")) == [folder / "a", folder / "b.gz"]


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BRIDLE_DATA", raising=False)
    monkeypatch.delenv("BRIDLE_CACHE", raising=False)
    write(tmp_path / "data", {"a": b"", "b": b""})
    assert locate(TWO, "~/data")[0] == tmp_path / "data" / "a"
    assert cache_folder() == tmp_path / ".cache" / "bridle"


def test_order_of_places(tmp_path: Path, nowhere: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a": b"", "b": b""}
    in_cache = write(nowhere / "Two" / "raw", files)
    assert locate(TWO)[0].parent == in_cache
    monkeypatch.setenv("BRIDLE_DATA", str(tmp_path / "named"))
    assert locate(TWO)[0].parent == in_cache  # nothing in the named folder
    in_named = write(tmp_path / "named" / "Two" / "raw", files)
    assert locate(TWO)[0].parent == in_named
    in_root = write(tmp_path / "root", files)
    assert locate(TWO, str(tmp_path / "root"))[0].parent == in_root


def test_root_alone_is_looked_in(
    tmp_path: Path, nowhere: Path, write: Write, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    write(nowhere / "Two" / "raw", {"a": b"", "b": b""})
    monkeypatch.setenv("BRIDLE_DATA", str(write(tmp_path / "named", {"a": b"", "b": b""})))
    root = tmp_path / "root"
    with refused("Two", root, "Two/raw", "a, b", ".gz", "--data.root"):
        locate(TWO, str(root))


def test_absent_without_root(nowhere: Path, refused: Refused) -> None:
    with refused("Two", nowhere, "a, b", "BRIDLE_DATA"):
        locate(TWO)


def test_one_file_absent(tmp_path: Path, write: Write, refused: Refused) -> None:
    write(tmp_path / "Two" / "raw", {"a": b""})
    with refused("not found beside", tmp_path / "Two" / "raw" / "a", ": b, "):
        locate(TWO, str(tmp_path))


def test_files_of_two_folders_are_not_mixed(tmp_path: Path, write: Write, refused: Refused) -> None:
    write(tmp_path, {"a": b""})
    write(tmp_path / "raw", {"b": b""})
    with refused("not found beside"):
        locate(TWO, str(tmp_path))


def test_checksum(tmp_path: Path, write: Write, refused: Refused) -> None:
    write(tmp_path, {"a": b"abc", "b": b""})
    check_md5(tmp_path / "a", "900150983cd24fb0d6963f7d28e17f72")  # from RFC 1321
    with refused(tmp_path / "a", "3 bytes", "900150983cd24fb0d6963f7d28e17f72", "0" * 32, "delete it"):
        locate(replace(TWO, md5={"a": "0" * 32}), str(tmp_path))
    with refused("absent", "cannot be read"):
        check_md5(tmp_path / "absent", "")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which it is served."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def _serve(server: tuple[Path, str], files: dict[str, bytes]) -> dict[str, str]:
    """Puts files on the server and returns the checksum of each by its address."""
    folder, address = server
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {f"{address}/{name}": md5(content).hexdigest() for name, content in files.items()}


def test_mnist_is_fetched(
    nowhere: Path, drawn_mnist: dict[str, bytes], server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped = {name: content for name, content in drawn_mnist.items() if name.endswith(".gz")}
    monkeypatch.setattr(mnist_module, "PUBLISHED", replace(mnist_module.PUBLISHED, urls=_serve(server, zipped)))
    assert len(MNIST(download=True).split("train")) == 25
    assert {path.name for path in (nowhere / "MNIST" / "raw").iterdir()} == set(zipped)  # and nothing left over
    for path in server[0].iterdir():
        path.unlink()
    assert len(MNIST(download=True).split("train")) == 25  # not fetched again
    assert len(MNIST().split("train")) == 25


def test_cifar10_is_fetched_into_root(
    tmp_path: Path,
    nowhere: Path,
    drawn_cifar: dict[str, bytes],
    server: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in {**drawn_cifar, "readme.html": b""}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    urls = _serve(server, {"cifar.tar.gz": archive.getvalue()})
    monkeypatch.setattr(cifar10_module, "PUBLISHED", replace(cifar10_module.PUBLISHED, urls=urls))
    root = tmp_path / "root"
    assert len(CIFAR10(str(root), download=True).split("test")) == 4
    assert {path.name for path in (root / "cifar-10-batches-py").iterdir()} == set(drawn_cifar)
    assert not nowhere.exists()


def test_nothing_is_fetched_unless_asked(nowhere: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.retrieve", pytest.fail)
    with refused("MNIST", "--data.download true", nowhere):
        MNIST().split("train")
    with refused("CIFAR10", "--data.download true", nowhere):
        CIFAR10().split("train")


def test_fetched_file_with_another_checksum(nowhere: Path, server: tuple[Path, str], refused: Refused) -> None:
    urls = dict.fromkeys(_serve(server, {"a": b"another"}), "0" * 32)
    with refused("Two", "does not match the known hash", nowhere / "Two" / "raw"):
        locate(replace(TWO, urls=urls), download=True)
    assert list((nowhere / "Two" / "raw").iterdir()) == []


def test_no_connection(nowhere: Path, server: tuple[Path, str], refused: Refused) -> None:
    unused = server[1].rsplit(":", 1)[0] + ":9"  # the discard port: nobody listens
    with refused("Two", "no connection", "try again", nowhere / "Two" / "raw", "a, b"):
        locate(replace(TWO, urls={f"{unused}/a": "0" * 32}), download=True)


def test_server_without_the_file(nowhere: Path, server: tuple[Path, str], refused: Refused) -> None:
    with refused("Two", "404"):
        locate(replace(TWO, urls={f"{server[1]}/a": "0" * 32}), download=True)
