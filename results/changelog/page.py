"""The changelog of a study, written from its tables: like a page kept by hand, with what such a page misses.

Everything on it comes from the tables `studies`, `trials` and `epochs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results.changelog.findings import Finding, findings
from results.changelog.run_history import Row, RunHistory, change_text, dotted, shown
from results.changelog.summary import against, by_technique, difference, glance, learnt, md, result
from results.changelog.told import told
from results.output import Sheet, render
from search_spaces.common import atomic


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
    runs = any(row["run"] for row in history.trials)
    sections = (
        _head(history),
        glance(history) if runs else [],
        *(_phase(history, name, rows) for name, rows in history.phases()),
        learnt(history),
        by_technique(history) if runs else [],
        _best(history),
        _missed(found),
        _timeline(history),
    )
    text = "\n".join("\n".join(lines) + "\n" for lines in sections if lines)
    return ChangelogPage(text, len(history.trials), len(found), history.problems)


def write_page(path: Path, text: str) -> None:
    """Write the page, made beside its place and renamed. Raises `InputError` for a place that cannot be written."""
    atomic.write(path, text, advice="choose another place")


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
    best = min((row for row in trials if not history.unusable(row)), key=history.value, default=None)
    source = f"near the best: {history.compare(best, best).source}" if best else "there is no PER yet"
    return [
        f"# Changelog of {md(study['study'])}",
        "",
        f"{'; '.join(facts)}.",
        "",
        "PER is the phoneme error rate of greedy decoding unless another decoder is named. The ± of a PER is a 95% "
        "interval for other sentences and another seed. Two runs on the same sentences differ if their difference is "
        f"more than seeds alone explain ({source}); otherwise it is called a tie.",
    ]


def _phase(history: RunHistory, name: str, rows: Sequence[Row]) -> list[str]:
    lines = [f"## {md(name)}", ""]
    if any(row["run"] for row in rows):
        return [lines[0], *(line for row in rows for line in _run(history, row))]
    table = []
    for row in rows:
        before = history.came_from(row)
        table.append(
            {
                "trial": row["trial"],
                "PER": result(history, row),
                "epochs": row["epochs"],
                "from": "" if before is None else history.name(before),
                "what changed": "" if before is None else change_text(history.changes(before, row), most=5),
                "against it": against(history, row),
            }
        )
    return [*lines, *render(Sheet.of(table), "markdown").splitlines()]


def _run(history: RunHistory, row: Row) -> list[str]:
    """A run as one item of a list: result, changes, purpose, and what is told of it."""
    verdict = against(history, row)
    lines = [f"- **{md(history.name(row))}**: {md(result(history, row))}" + (f"; {md(verdict)}" if verdict else "")]
    before = history.came_from(row)
    if before is not None:
        guess = "" if row["parent"] else " (the most similar earlier run; no parent is recorded)"
        guessed = (row["assumed"] or "").split(", ")
        changes = [
            f"{dotted(column)} {shown(new, column)} (was {shown(old, column)}{', assumed' * (column in guessed)})"
            for column, old, new in history.changes(before, row)
        ]
        lines.append(f"  - Changed from {md(history.name(before))}{guess}: {md(', '.join(changes) or 'nothing')}")
    known = told(row)
    note = row["note"] if known is None else known.note
    texts = [f"Purpose: {row['purpose']}"] if row["purpose"] else []
    texts += [f"Noted by hand: {note}"] if note else []
    if known is not None:
        texts += [f"Remarks: {' '.join(map(_sentence, known.remarks))}"] if known.remarks else []
        texts += [f"Assumed: {_few(known.assumed)}"] if known.assumed else []
    return lines + [f"  - {' · '.join(map(md, texts))}"] * bool(texts)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _few(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _best(history: RunHistory) -> list[str]:
    usable = [row for row in history.trials if not history.unusable(row)]
    lines = ["## Best configuration", ""]
    if not usable:
        return [*lines, "No trial has completed with a PER."]
    best = min(usable, key=lambda row: (history.value(row), row["trial"]))
    text = f"**{md(history.name(best))}**: {md(result(history, best))}, the lowest of {len(usable)}."
    seen = {history.key(best)}
    tied = []
    for row in sorted(usable, key=history.value):
        if history.key(row) not in seen and history.compare(best, row).verdict == "tie":
            seen.add(history.key(row))
            tied.append(f"{history.name(row)} ({history.value(row):.4f})")
    text += f" It is a tie with: {md(', '.join(tied))}." if tied else ""
    first = usable[0]
    if first is best:
        text += " It is the first run of the history: no later run was shown to be better."
    else:
        against_first = f"{history.name(first)}, the first with a result: {difference(history.compare(first, best))}"
        text += f" Against {md(against_first)}."
    varied = [name for name in history.settings if len({repr(row[name]) for row in history.trials}) > 1]
    values = [f"{dotted(name)} {shown(best[name], name)}" for name in varied if best[name] is not None]
    lines += [text, ""] + [f"Its settings, of those that vary: {md(', '.join(values))}."] * bool(values)
    assumed = best["assumed"]
    return [*lines, "", f"Assumed, not recorded: {md(assumed)}"] if assumed else lines


def _missed(found: Sequence[Finding]) -> list[str]:
    lines = ["## What a page kept by hand misses", ""]
    texts: dict[str, list[str]] = {}
    for finding in found:
        texts.setdefault(finding.kind, []).append(finding.text)
    for kind, mine in texts.items():
        if len(mine) == 1:
            lines.append(f"- **{md(kind)}:** {md(mine[0])}")
        else:
            lines += [f"- **{md(kind)}**", *(f"  - {md(text)}" for text in mine)]
    return lines if found else [*lines, "Nothing was found."]


def _timeline(history: RunHistory) -> list[str]:
    """A line for each phase: its PERs, and every run in it that set a new lowest one."""
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
        lines.append(f"- {md(text)}" + (f"; a new lowest: {md(', '.join(steps))}" if steps else ""))
    if lowest is not None:
        lines += ["", f"Lowest PER at the end: {lowest['best_per']:.4f} ({md(history.name(lowest))})"]
    return lines
