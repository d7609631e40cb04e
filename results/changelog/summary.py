"""The parts of the page that look over all runs: at a glance, what was learnt, what each technique brought."""

from __future__ import annotations

from collections import Counter

from results.changelog.effects import LEAST_PAIRS, Effect, effects
from results.changelog.run_history import Comparison, Row, RunHistory, change_text
from results.changelog.techniques import brought, next_step, techniques
from results.changelog.told import told
from results.output import Sheet, _escape, render, visible

_DIFFERENT = 1.2
"""Budgets that differ by more than this factor are said to differ."""


def md(text: str) -> str:
    """Text from a table, escaped for Markdown, on one line."""
    return _escape(visible(text))


def result(history: RunHistory, row: Row) -> str:
    """The result with its interval, or why there is none."""
    if row["best_per"] is None:
        text = "no PER" if row["status"] == "completed" else str(row["status"])
    else:
        why = history.unusable(row)
        half = f" ± {history.interval(row):.4f}" if why is None else f" ({why})"
        text = f"{row['best_per']:.4f}{half}"
        seeds = len(history.draws(row))
        if seeds > 1:
            text += f" (mean of {seeds} seeds {history.value(row):.4f})"
    return text + (f"; beam search {row['beam_per']:.4f}" if row["beam_per"] is not None else "")


def against(history: RunHistory, row: Row) -> str:
    """The run against the one it came from, in words; empty where that cannot be said."""
    comparison = compared(history, row)
    return "" if comparison is None else f"{difference(comparison)} against {history.name(comparison.before)}"


def compared(history: RunHistory, row: Row) -> Comparison | None:
    """The run against the one it came from; None where one of them has no result, or both have one configuration."""
    if history.unusable(row):
        return None
    before = history.rival(row)
    if before is None or history.key(before) == history.key(row):
        return None
    return history.compare(before, row)


def difference(comparison: Comparison) -> str:
    """`better, 0.0141 lower (noise: 0.0100)`; and the batches of both, where they differ."""
    sign = "higher" if comparison.difference > 0 else "lower"
    word = {"tie": "a tie", "better": "better", "worse": "worse"}[comparison.verdict]
    batches = [row.get("training_batches") or 0 for row in (comparison.after, comparison.before)]
    long, short = max(batches), min(batches)
    unlike = f", with {batches[0]} batches against {batches[1]}" if short and long > _DIFFERENT * short else ""
    return f"{word}, {abs(comparison.difference):.4f} {sign} (noise: {comparison.margin:.4f}){unlike}"


def glance(history: RunHistory) -> list[str]:
    """All runs in one table; for recorded runs that were trained here, the recorded PER beside the new one."""
    rows = []
    here = any(row["origin"] == "replicate" for row in history.trials)
    for row in history.trials:
        comparison, before, known = compared(history, row), history.came_from(row), told(row)
        line = {"run": history.name(row), "batches": row.get("training_batches"), "PER": result(history, row)}
        if here:
            line["recorded"] = "" if known is None or known.per is None else f"{known.per:.4f} ({known.about})"
        line["from"] = "" if before is None else history.name(before)
        line["verdict"] = "" if comparison is None else f"{comparison.verdict} ({comparison.difference:+.4f})"
        rows.append(line)
    return ["## All runs at a glance", "", *_budgets(history), *render(Sheet.of(rows), "markdown").splitlines()]


def _budgets(history: RunHistory) -> list[str]:
    """A warning where the runs that have a result were trained for different numbers of batches."""
    lengths = Counter(row["training_batches"] for row in history.trials if row.get("training_batches"))
    if not lengths or max(lengths) <= _DIFFERENT * min(lengths):
        return []
    usual, _ = max(lengths.items(), key=lambda item: (item[1], -item[0]))
    others = [
        f"{history.name(row)} {row['training_batches']}"
        for row in history.trials
        if row.get("training_batches") and not usual / _DIFFERENT <= row["training_batches"] <= usual * _DIFFERENT
    ]
    names = ", ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else "")
    near = lengths.total() - lengths[usual] - len(others)
    alike = f"{near} about as many, " if near else ""
    text = f"the runs differ in budget: {lengths[usual]} have {usual} batches, {alike}{names}"
    return [f"**Warning:** {md(text)}. A longer run has an advantage that is not its settings'.", ""]


def learnt(history: RunHistory) -> list[str]:
    """What worked and what did not: child against parent, and setting by setting where a search varied many."""
    verdicts: dict[str, list[str]] = {"better": [], "worse": [], "tie": []}
    silent = []
    for row in history.trials:
        if not row["run"]:
            continue
        comparison = compared(history, row)
        if comparison is not None:
            verdicts[comparison.verdict].append(_pair(history, comparison))
        elif history.came_from(row) is not None:
            before = history.rival(row)
            why = "the same configuration again" if before else "there is nothing to compare it with"
            silent.append(f"{history.name(row)} ({history.unusable(row) or why})")
    looked, unlike = ([], []) if history.has_parents else effects(history)
    for effect in sorted(looked, key=lambda effect: -abs(effect.difference)):
        verdicts[effect.verdict].append(_effect(effect))
    lines = ["## Summary of what was learnt", ""]
    for verdict, title in (("better", "What worked"), ("worse", "What did not work"), ("tie", "Ties")):
        lines += _listed(title, verdicts[verdict], one_line=not looked)
    lines += [f"- **Not known:** {md('; '.join(silent))}"] if silent else []
    if unlike:
        few = f"fewer than {LEAST_PAIRS} pairs of trials are otherwise alike for {', '.join(unlike)}"
        study = md(history.study["study"])
        lines.append(f"- **Not told apart:** {md(few)}; `tuner importance {study}` judges settings")
    lines += ["", f"The intervals of settings are wide enough for all {len(looked)} contrasts together."] * bool(looked)
    return lines


def _listed(title: str, texts: list[str], one_line: bool) -> list[str]:
    if one_line or len(texts) < 2:
        return [f"- **{title}:** {md('; '.join(texts)) or 'nothing'}"]
    return [f"- **{title}**", *(f"  - {md(text)}" for text in texts)]


def _effect(effect: Effect) -> str:
    text = f"{effect.contrast}: PER {effect.difference:+.4f} ± {effect.half:.4f} over {effect.pairs} pairs of trials"
    return f"{text} that are otherwise alike, each at the last place that both reached"


def _pair(history: RunHistory, comparison: Comparison) -> str:
    changes = history.changes(comparison.before, comparison.after)
    what = change_text(changes) if len(changes) < 2 else f"{len(changes)} settings changed at once"
    return (
        f"{history.name(comparison.after)} against {history.name(comparison.before)}: {difference(comparison)}, {what}"
    )


def by_technique(history: RunHistory) -> list[str]:
    """A table: what each technique brought, and what to try next."""
    usable = [row for row in history.trials if not history.unusable(row)]
    found = techniques(history, [c for row in history.trials if (c := compared(history, row)) is not None])
    if not found:
        return []
    best = min(usable, key=lambda row: (history.value(row), row["trial"]))
    rows = []
    for technique in found:
        best_of = [(text, row) for text, row in technique.best.items() if text]
        values = [f"{text}: {history.value(row):.4f} ({history.name(row)})" for text, row in best_of]
        rows.append(
            {
                "technique": technique.name,
                "what it brought": brought(history, technique),
                "lowest PER by value": "; ".join(values[:2]),
                "try next": next_step(history, technique, best),
            }
        )
    return ["## What each technique brought", "", *render(Sheet.of(rows), "markdown").splitlines()]
