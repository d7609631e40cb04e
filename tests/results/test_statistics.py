"""Student's t, against the tables and against scipy."""

from __future__ import annotations

import pytest
from scipy.special import stdtrit

from results.statistics import student_t

TABLE = {
    0.975: {1: 12.706, 2: 4.303, 4: 2.776, 5: 2.5706, 10: 2.228, 15: 2.131, 16: 2.120, 20: 2.086, 30: 2.0423, 60: 2.000}
    | {10**6: 1.960},
    0.995: {10: 3.1693},
    0.9975: {5: 4.7733},
    0.999: {20: 3.5518},
}


@pytest.mark.parametrize("share", TABLE)
def test_student_t(share: float) -> None:
    """The quantiles are those of the tables."""
    for degrees, value in TABLE[share].items():
        assert student_t(share, degrees) == pytest.approx(value, abs=0.0006)


def test_student_t_agrees_with_scipy() -> None:
    """To five digits, for few degrees of freedom and many, in the middle and far out."""
    for share in (0.5, 0.8, 0.975, 0.9999):
        for degrees in (*range(1, 40), 200, 201, 1000):
            assert student_t(share, degrees) == pytest.approx(float(stdtrit(degrees, share)), rel=1e-5, abs=1e-9)
