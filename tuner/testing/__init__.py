"""Contracts as test suites, for everything that can be added: searchers, stopping rules, schedules, importers, hearers.

What each must hold is told where it is defined, and clause by clause in the suites here. A test of your own runs one:

    import pytest
    from tuner.testing import searchers

    @pytest.mark.parametrize("clause", searchers.contract(MySettings(), MyMethod), ids=str)
    def test_my_searcher(clause):
        clause()

The suites need hypothesis. May import everything; nothing imports it but tests.
"""
