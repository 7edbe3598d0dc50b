"""Fixtures: a mint whose URLs can be read back, a judge of another make, and where the corpora are."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from postwake_milter.rewrite.engine import Plan

_HERE = Path(__file__).parent


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", name="judge")
def _judge() -> ModuleType:
    return _load("stdlib_judge", _HERE / "stdlib_judge.py")


@pytest.fixture(name="mint")
def _mint(judge: ModuleType) -> object:
    return judge.JudgedMint()


@pytest.fixture(name="plan")
def _plan(judge: ModuleType) -> Plan:
    return Plan(own_hosts=frozenset({judge.HOST}))


@pytest.fixture(scope="session", name="corpora")
def _corpora() -> Path:
    root = Path(__file__).resolve().parents[4]
    path = Path(os.environ.get("POSTWAKE_CORPORA", root.parent / "shared" / "corpora"))
    if not path.is_dir():
        pytest.skip(f"no corpora at {path}: set POSTWAKE_CORPORA to a folder that has them")
    return path
