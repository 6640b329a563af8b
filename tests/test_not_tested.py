"""What was skipped is said at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.not_tested import not_tested


@dataclass
class Report:
    nodeid: str
    longrepr: object
    keywords: dict[str, int] = field(default_factory=dict)


@dataclass
class ModuleReport:
    nodeid: str
    longrepr: object


def test_each_marker_and_reason_gives_one_line_with_its_count():
    missing = ("test_a.py", 3, "Skipped: no moto")
    reports = [
        Report("test_a.py::b", missing, {"stores": 1}),
        Report("test_a.py::c", missing, {"stores": 1}),
        Report("test_d.py::e", ("test_d.py", 3, "Skipped: no GPU"), {"gpu": 1, "slow": 1}),
        Report("test_f.py::g", ("test_f.py", 3, "Skipped: on Windows"), {"slow": 1}),
    ]
    assert not_tested(reports) == [
        "NOT TESTED HERE: gpu: no GPU (1 skipped)",
        "NOT TESTED HERE: stores: no moto (2 skipped)",
    ]


def test_a_module_skipped_as_a_whole_is_named_by_its_path():
    reports = [ModuleReport("tests/test_a.py", ("test_a.py", 1, "Skipped: no airflow"))]
    assert not_tested(reports) == ["NOT TESTED HERE: tests/test_a.py: no airflow (1 skipped)"]
