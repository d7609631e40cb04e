"""The section `hydra.sweeper` of Hydra's Optuna sweeper: `params` (1.2 and later) and `search_space` (before)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from search_spaces.foreign.sweep import Parameter, Sweep, ends_on_step, is_number, range_entry, tidy
from search_spaces.parsing.yaml_file import parse_value
from search_spaces.wording import show

SAMPLERS = {
    "TPESampler": "tpe",
    "RandomSampler": "random",
    "GPSampler": "gp",
    "CmaEsSampler": "cmaes",
    "QMCSampler": "qmc",
    "NSGAIISampler": "nsga2",
    "MOTPESampler": "tpe",
    "GridSampler": "grid",
}
_SETTINGS = {
    ("tpe", "n_startup_trials"): "startup_trials",
    ("gp", "n_startup_trials"): "startup_trials",
    ("cmaes", "n_startup_trials"): "startup_trials",
    ("cmaes", "popsize"): "population",
    ("nsga2", "population_size"): "population",
    ("nsga2", "crossover_prob"): "crossover",
    ("nsga2", "mutation_prob"): "mutation",
}
_CALL = re.compile(r"^\s*(\w+)\s*\((.*)\)\s*$", re.DOTALL)
_OPEN, _CLOSE = "([{", ")]}"


def section(data: Any) -> Mapping[str, Any] | None:
    """The sweeper's section in the content of a file; None where there is none."""
    if not isinstance(data, dict):
        return None
    for path in (("hydra", "sweeper"), ("sweeper",), ()):
        found: Any = data
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict) and any(isinstance(found.get(key), dict) for key in ("params", "search_space")):
            return found
    return None


def read(found: Mapping[str, Any]) -> Sweep:
    """The sweep; what has no counterpart is a remark."""
    sweep = Sweep("a section of Hydra's Optuna sweeper")
    for name, text in (found.get("params") or {}).items():
        _param(str(name), text, sweep)
    for name, about in (found.get("search_space") or {}).items():
        sweep.parameters.append(_typed(str(name), about))
    _sampler(found.get("sampler"), sweep)
    trials = found.get("n_trials")
    sweep.trials = trials if isinstance(trials, int) and trials > 0 else None
    direction = found.get("direction", "minimize")
    directions = direction if isinstance(direction, list) else [direction]
    if any("max" in str(each).lower() for each in directions):
        sweep.remarks.append("direction maximize: here an objective is minimised")
    if len(directions) > 1:
        sweep.remarks.append("several directions: `objectives:` in the space names what is minimised")
    if (jobs := found.get("n_jobs")) not in (None, 1):
        sweep.remarks.append(f"n_jobs {show(jobs)}: give it to tuner search as --concurrent")
    known = ("params", "search_space", "sampler", "n_trials", "direction", "n_jobs", "study_name", "storage",
             "_target_", "max_failure_rate", "defaults")  # fmt: skip
    sweep.remarks += [f"{key} has no counterpart" for key in found if key not in known]
    return sweep


def _sampler(about: Any, sweep: Sweep) -> None:
    if not isinstance(about, dict) or "_target_" not in about:
        return
    name = str(about["_target_"]).rpartition(".")[2]
    kind = SAMPLERS.get(name)
    if kind is None:
        sweep.remarks.append(f"the sampler {name} has no counterpart; tpe is used")
        return
    given = {_SETTINGS[kind, key]: value for key, value in about.items() if (kind, key) in _SETTINGS and value}
    sweep.searcher = {"kind": kind, **given}
    left = [key for key in about if (kind, key) not in _SETTINGS and key not in ("_target_", "seed")]
    if left:
        sweep.remarks.append(f"settings of the sampler without a counterpart: {', '.join(left)}")
    if about.get("seed") is not None:
        sweep.remarks.append(f"the sampler's seed: give it to tuner search as --seed {show(about['seed'])}")


def _param(name: str, text: Any, sweep: Sweep) -> None:
    """One of `params`: an override as on Hydra's command line."""
    if not isinstance(text, str):
        if isinstance(text, list):
            sweep.parameters.append(Parameter(name, show(text), {"choice": text}))
        else:
            sweep.fixed[name] = text
        return
    parameter = Parameter(name, text)
    try:
        _override(text, parameter, sweep)
    except (TypeError, ValueError):
        parameter.entry = None
        parameter.remarks.append("cannot be read as an override of Hydra")
    if name not in sweep.fixed:
        sweep.parameters.append(parameter)


def _override(text: str, parameter: Parameter, sweep: Sweep) -> None:
    call = _CALL.match(text)
    if call is None:
        values = _split(text)
        if len(values) > 1:
            parameter.entry = {"choice": [parse_value(value) for value in values]}
        else:
            sweep.fixed[parameter.name] = parse_value(text)
        return
    log = whole = False
    function, inside = call.groups()
    while function in ("tag", "int", "float", "shuffle", "sort"):
        *tags, inner = _split(inside)
        log, whole = log or "log" in tags, whole or function == "int"
        if function in ("shuffle", "sort"):
            parameter.remarks.append(f"{function} has no counterpart: the searcher decides the order")
        again = _CALL.match(inner)
        if again is None:
            raise ValueError(inner)
        function, inside = again.groups()
    arguments, named = _arguments(inside)
    if function == "choice":
        parameter.entry = {"choice": arguments}
    elif function == "interval":
        low, high = (*arguments, *(named[key] for key in ("start", "end") if key in named))
        both = all(isinstance(end, int) for end in (low, high))
        parameter.entry = range_entry(low, high, log=log, whole=whole or both)
    elif function == "range":
        _range(parameter, arguments, named)
    else:
        parameter.remarks.append(f"{function}(...) has no counterpart")


def _range(parameter: Parameter, arguments: list[Any], named: dict[str, Any]) -> None:
    """`range(1, 10, step=2)`: the sweeper takes the end as included where a step leads there."""
    given = dict(zip(("start", "stop", "step"), arguments if len(arguments) > 1 else [0, *arguments], strict=False))
    given |= named
    low, high, step = given.get("start", 0), given["stop"], given.get("step", 1)
    whole = all(isinstance(each, int) for each in (low, high, step))
    last = tidy(ends_on_step(low, high, step))
    if last != high:
        parameter.remarks.append(f"no step leads to {show(high)}: the last value is {show(last)}")
    parameter.entry = range_entry(low, last, step=step, whole=whole)


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    plain: list[Any] = []
    named: dict[str, Any] = {}
    for part in _split(text):
        key, sign, value = part.partition("=")
        if sign and key.strip().isidentifier():
            named[key.strip()] = parse_value(value)
        else:
            plain.append(parse_value(part))
    return plain, named


def _split(text: str) -> list[str]:
    """The parts between commas, not those inside brackets or quotes."""
    parts, deep, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in _OPEN:
            deep += 1
        elif sign in _CLOSE:
            deep -= 1
        if sign == "," and not deep and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts if part.strip()]


def _typed(name: str, about: Any) -> Parameter:
    """One of `search_space`: type, low, high, step, log, choices."""
    parameter = Parameter(name, show(about) if not isinstance(about, dict) else ", ".join(
        f"{key} {show(value)}" for key, value in about.items()))  # fmt: skip
    if not isinstance(about, dict):
        parameter.remarks.append("has no type")
        return parameter
    kind, low, high, step = (about.get(key) for key in ("type", "low", "high", "step"))
    if kind == "categorical" and isinstance(about.get("choices"), list):
        parameter.entry = {"choice": about["choices"]}
    elif kind in ("int", "float") and low is not None and high is not None and is_number(low) and is_number(high):
        last = tidy(ends_on_step(low, high, step)) if step else high
        parameter.entry = range_entry(low, last, log=bool(about.get("log")), step=step, whole=kind == "int")
    else:
        parameter.remarks.append(f"the type {show(kind)} with these values has no counterpart")
    return parameter
