"""Options of the whole suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write the golden training logs anew instead of comparing with them",
    )


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of their own for the tests, also for the programs that they run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRIDLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
