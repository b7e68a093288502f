"""What a conformance check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from latentwrap.errors import LatentwrapError


class Outcome(str, Enum):
    """How a check went."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "not run"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: of the check.
        outcome: how it went.
        found: what was found, or why it was not run.
    """

    name: str
    outcome: Outcome
    found: str

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome.value}: {self.found}"


@dataclass(frozen=True)
class Report:
    """The results of all checks, in order.

    Attributes:
        results: one for each check.

    Example:
        >>> report = Report((CheckResult("copy", Outcome.PASSED, "largest difference 0"),))
        >>> print(report)
        copy: passed: largest difference 0
        >>> report.failed
        ()
    """

    results: tuple[CheckResult, ...]

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that did not pass."""
        return self._with(Outcome.FAILED)

    @property
    def skipped(self) -> tuple[CheckResult, ...]:
        """The checks that could not be run."""
        return self._with(Outcome.SKIPPED)

    def __getitem__(self, name: str) -> CheckResult:
        return next(result for result in self.results if result.name == name)

    def __str__(self) -> str:
        return "\n".join(map(str, self.results))

    def _with(self, outcome: Outcome) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if result.outcome is outcome)


class ConformanceError(LatentwrapError):
    """An environment that does not behave as a latent environment must.

    Attributes:
        report: the results of all checks.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        lines = [f"{len(report.failed)} of {len(report.results)} checks failed:"]
        super().__init__("\n  ".join([*lines, *(f"{r.name}: {r.found}" for r in report.failed)]))

    def __reduce__(self) -> tuple[type[ConformanceError], tuple[Report]]:
        return type(self), (self.report,)
