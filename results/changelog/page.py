"""The changelog of a study, written from its tables: like a page kept by hand, with what such a page misses.

Everything on it comes from the tables `studies`, `trials` and `epochs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results.changelog.effects import effects
from results.changelog.findings import Finding, findings
from results.changelog.run_history import Comparison, Row, RunHistory, change_text, dotted, shown
from results.output import Sheet, _escape, render, visible
from search_spaces.common import atomic

_FEW = 4  # a finding about more trials is shown only in the summary


@dataclass
class ChangelogPage:
    """The page (Markdown), the numbers of its trials and findings, and the problems found in the files."""

    text: str
    trials: int
    findings: int
    problems: list[str] = field(default_factory=list)


def changelog(results_dir: str | Path, study: str) -> ChangelogPage:
    """The page of one study. Raises `InputError` if there is no such study."""
    history = RunHistory.load(results_dir, study)
    found = findings(history)
    sections = (
        _head(history),
        *(_phase(history, name, rows, found) for name, rows in history.phases()),
        _learnt(history),
        _best(history),
        _missed(found),
        _timeline(history),
    )
    text = "\n".join("\n".join(lines) + "\n" for lines in sections if lines)
    return ChangelogPage(text, len(history.trials), len(found), history.problems)


def write_page(path: Path, text: str) -> None:
    """Write the page, made beside its place and renamed. Raises `InputError` for a place that cannot be written."""
    atomic.write(path, text, advice="choose another place")


def md(text: str) -> str:
    """Text from a table, escaped for Markdown, on one line."""
    return _escape(visible(text))


def _head(history: RunHistory) -> list[str]:
    study, trials = history.study, history.trials
    counts = Counter(str(row["status"]) for row in trials)
    known = [row for row in trials if row["best_per"] is not None]
    facts = [
        f"{len(trials)} trials: {', '.join(f'{count} {status}' for status, count in counts.most_common())}",
        f"{len(known)} with a PER, {study['epochs']} evaluations",
    ]
    if study["data_name"]:
        facts.append(f"data: {md(study['data_name'])}")
    if study["origin_note"]:
        facts.append(md(study["origin_note"]))
    hours = (study["cpu_seconds"] + study["gpu_seconds"]) / 3600
    if hours:
        facts.append(f"{study['cpu_seconds'] / 3600:.1f} CPU hours, {study['gpu_seconds'] / 3600:.1f} GPU hours")
    source = (
        f"measured by replicates ({history.degrees} degrees of freedom)"
        if history.measured
        else "assumed from published replicates; there are not enough replicates here"
    )
    return [
        f"# Changelog of {md(study['study'])}",
        "",
        *(f"- {fact}" for fact in facts),
        "",
        "PER is the phoneme error rate of greedy decoding unless another decoder is named. The ± of a PER is a 95% "
        "interval for other sentences and another seed. Two runs on the same sentences differ if their difference is "
        f"more than seeds alone explain ({source}); otherwise it is called a tie.",
    ]


def _phase(history: RunHistory, name: str, rows: Sequence[Row], found: Sequence[Finding]) -> list[str]:
    lines = [f"## {md(name)}", ""]
    if any(row["run"] for row in rows):
        for row in rows:
            lines += _run(history, row, found)
        return lines[:-1]
    table = []
    for row in rows:
        before = history.came_from(row)
        table.append(
            {
                "trial": row["trial"],
                "PER": _result(history, row),
                "epochs": row["epochs"],
                "from": "" if before is None else history.name(before),
                "what changed": "" if before is None else change_text(history.changes(before, row), most=5),
                "against it": _against(history, row),
            }
        )
    return [*lines, *render(Sheet.of(table), "markdown").splitlines()]


def _run(history: RunHistory, row: Row, found: Sequence[Finding]) -> list[str]:
    before = history.came_from(row)
    lines = [f"### {md(history.name(row))}", ""]
    if before is not None:
        changes = history.changes(before, row)
        guess = "" if row["parent"] else " (the most similar earlier run; no parent is recorded)"
        lines.append(f"**Changes from {md(history.name(before))}**{guess}:" + ("" if changes else " none"))
        guessed = (row["assumed"] or "").split(", ")
        lines += [
            f"- {md(dotted(column))}: {md(shown(new, column))} (was {md(shown(old, column))})"
            + (", assumed" if column in guessed else "")
            for column, old, new in changes
        ]
        lines.append("")
    if row["purpose"]:
        lines += [f"**Purpose:** {md(row['purpose'])}", ""]
    result = md(_result(history, row))
    against = md(_against(history, row))
    lines += [f"**Result:** {result}" + (f"; {against}" if against else ""), ""]
    if row["note"]:
        lines += [f"**Noted by hand:** {md(row['note'])}", ""]
    mine = [finding for finding in found if row["trial"] in finding.trials and len(finding.trials) <= _FEW]
    if mine:
        texts = [finding.text.removeprefix(f"{history.name(row)}: ") for finding in mine]
        lines += ["**Found:**", *(f"- {md(text)}" for text in texts), ""]
    return lines


def _result(history: RunHistory, row: Row) -> str:
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


def _against(history: RunHistory, row: Row) -> str:
    comparison = _comparison(history, row)
    if comparison is None:
        return ""
    return f"{_difference(comparison)} against {history.name(comparison.before)}"


def _comparison(history: RunHistory, row: Row) -> Comparison | None:
    if history.unusable(row):
        return None
    before = history.rival(row)
    if before is None or history.key(before) == history.key(row):
        return None
    return history.compare(before, row)


def _difference(comparison: Comparison) -> str:
    sign = "higher" if comparison.difference > 0 else "lower"
    word = {"tie": "a tie", "better": "better", "worse": "worse"}[comparison.verdict]
    return f"{word}, {abs(comparison.difference):.4f} {sign} (noise: {comparison.margin:.4f})"


def _learnt(history: RunHistory) -> list[str]:
    """What worked and what did not: child against parent, and setting by setting where a search varied many."""
    verdicts: dict[str, list[str]] = {"better": [], "worse": [], "tie": []}
    silent = []
    for row in history.trials:
        if not row["run"]:
            continue
        comparison = _comparison(history, row)
        if comparison is not None:
            verdicts[comparison.verdict].append(_pair(history, comparison))
        elif history.came_from(row) is not None:
            before = history.rival(row)
            why = "the same configuration again" if before else "there is nothing to compare it with"
            silent.append(f"{history.name(row)} ({history.unusable(row) or why})")
    looked = [] if history.has_parents else effects(history)
    for effect in sorted(looked, key=lambda effect: -abs(effect.difference)):
        verdicts[effect.verdict].append(
            f"{effect.contrast}: PER {effect.difference:+.4f} ± {effect.half:.4f} over {effect.pairs} pairs of trials "
            "that are otherwise similar"
        )
    lines = ["## Summary of what was learnt", ""]
    for verdict, title in (("better", "What worked"), ("worse", "What did not work"), ("tie", "Ties")):
        lines += [f"### {title}", "", *(f"- {md(text)}" for text in verdicts[verdict] or ["nothing"]), ""]
    if silent:
        lines += ["### Not known", "", f"- {md('; '.join(silent))}", ""]
    if looked:
        lines += [f"The intervals of settings are wide enough for all {len(looked)} contrasts together.", ""]
    return lines[:-1]


def _pair(history: RunHistory, comparison: Comparison) -> str:
    changes = history.changes(comparison.before, comparison.after)
    text = (
        f"{history.name(comparison.after)} against {history.name(comparison.before)}: {_difference(comparison)}, "
        f"with {change_text(changes)}"
    )
    if len(changes) > 1:
        text += f"; {len(changes)} settings changed at once, so the effect of each is unknown"
    return text


def _best(history: RunHistory) -> list[str]:
    usable = [row for row in history.trials if not history.unusable(row)]
    lines = ["## Best configuration", ""]
    if not usable:
        return [*lines, "No trial has completed with a PER."]
    best = min(usable, key=lambda row: (history.value(row), row["trial"]))
    lines += [f"**{md(history.name(best))}**: {md(_result(history, best))}, the lowest of {len(usable)}", ""]
    seen = {history.key(best)}
    tied = []
    for row in sorted(usable, key=history.value):
        if history.key(row) not in seen and history.compare(best, row).verdict == "tie":
            seen.add(history.key(row))
            tied.append(f"{history.name(row)} ({history.value(row):.4f})")
    lines += [f"It is a tie with: {md(', '.join(tied))}", ""] if tied else []
    first = usable[0]
    if first is best:
        lines += ["It is the first run of the history: no later run was shown to be better.", ""]
    else:
        text = f"Against {history.name(first)}, the first with a result: {_difference(history.compare(first, best))}"
        lines += [md(text), ""]
    for section in dict.fromkeys(name.split("_")[0] for name in history.settings):
        values = [
            f"{name.split('_', 1)[1]} {shown(best[name], name)}"
            for name in history.settings
            if name.startswith(f"{section}_") and best[name] is not None
        ]
        lines += [f"- **{md(section)}:** {md(', '.join(values))}"] if values else []
    assumed = best["assumed"]
    return [*lines, "", f"Assumed, not recorded: {md(assumed)}"] if assumed else lines


def _missed(found: Sequence[Finding]) -> list[str]:
    lines = ["## What a page kept by hand misses", ""]
    for kind in dict.fromkeys(finding.kind for finding in found):
        lines += [f"### {md(kind)}", ""]
        lines += [f"- {md(finding.text)}" for finding in found if finding.kind == kind]
        lines.append("")
    return lines[:-1] if found else [*lines, "Nothing was found."]


def _timeline(history: RunHistory) -> list[str]:
    """Each phase with the best PER until then, and within it every run that set a new one."""
    lines = ["## Timeline", ""]
    lowest: Row | None = None
    for name, rows in history.phases():
        steps = []
        for row in rows:
            if not history.unusable(row) and (lowest is None or row["best_per"] < lowest["best_per"]):
                lowest = row
                steps.append(f"{history.name(row)} {row['best_per']:.4f}")
        known = [row["best_per"] for row in rows if not history.unusable(row)]
        text = f"{name} ({len(rows)} trial{'s' * (len(rows) != 1)}"
        ends = dict.fromkeys(f"{per:.4f}" for per in (min(known), max(known))) if known else ()
        text += f", PER {' to '.join(ends)})" if known else ", no completed PER)"
        lines.append(f"- {md(text)}")
        lines += [f"  - a new lowest: {md(step)}" for step in steps]
    if lowest is not None:
        lines += ["", f"Lowest PER at the end: {lowest['best_per']:.4f} ({md(history.name(lowest))})"]
    return lines
