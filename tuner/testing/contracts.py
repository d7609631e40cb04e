"""A contract as clauses: each says in a sentence what holds, and raises `ContractBroken` with what happened instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings

T = TypeVar("T")


class ContractBroken(AssertionError):
    """Something that was added does not keep its contract; the message says which clause, and how."""


@dataclass(frozen=True)
class Clause:
    """One clause for one subject; call it to check it. Raises `ContractBroken`."""

    subject: str
    """What is checked, such as "searcher tpe"."""
    name: str
    says: str
    """What must hold: the first sentence of the check's docstring."""
    check: Callable[[], None]

    def __call__(self) -> None:
        """Check it."""
        try:
            self.check()
        except ContractBroken as error:
            raise ContractBroken(f"{self.subject}: {self.says} Here: {error}") from error
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise ContractBroken(f"{self.subject}: {self.says} Here it raised {what}") from error

    def __str__(self) -> str:
        return self.name


def clauses(subject: T, title: str, checks: Iterable[Callable[[T], None]]) -> list[Clause]:
    """The clauses of a contract for `subject`: a check for each, whose docstring says what must hold."""

    def clause(check: Callable[[T], None]) -> Clause:
        says = " ".join((check.__doc__ or "").split("\n\n")[0].split())
        return Clause(title, getattr(check, "__name__", "clause"), says, lambda: check(subject))

    return [clause(check) for check in checks]


def hold(condition: Any, instead: str) -> None:
    """Raises `ContractBroken` with what happened instead, unless the condition is true."""
    if not condition:
        raise ContractBroken(instead)


def examples(number: int) -> settings:
    """The same examples in every run, as many as that; the smallest that fails is told, and machines may be slow."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
