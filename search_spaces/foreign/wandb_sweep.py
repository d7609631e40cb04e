"""W&B sweep configurations (docs.wandb.ai, "Sweep configuration options")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from search_spaces.foreign.sweep import Entry, Parameter, Sweep, is_number, range_entry, tidy
from search_spaces.wording import show

METHODS = {"grid": "grid", "random": "random", "bayes": "gp"}
_IGNORED = ("program", "entity", "project", "description", "name", "command", "controller", "version", "$schema")


def is_sweep(data: Any) -> bool:
    """Whether the content of a file is a W&B sweep."""
    return isinstance(data, dict) and isinstance(data.get("parameters"), dict) and "sweeper" not in data


def read(data: Mapping[str, Any]) -> Sweep:
    """The sweep; what has no counterpart is a remark."""
    sweep = Sweep("a W&B sweep")
    _parameters(data["parameters"], "", sweep)
    method = data.get("method")
    if method in METHODS:
        sweep.searcher = {"kind": METHODS[method]}
    elif method is not None:
        sweep.remarks.append(f"method {show(method)} is not known; tpe is used")
    if method == "bayes":
        sweep.remarks.append("method bayes is a Gaussian process in W&B, so the searcher is gp")
    cap = data.get("run_cap")
    sweep.trials = cap if isinstance(cap, int) and cap > 0 else None
    metric = data.get("metric")
    if isinstance(metric, dict):
        sweep.metric = str(metric.get("name"))
        if str(metric.get("goal", "minimize")).lower().startswith("max"):
            sweep.remarks.append(f"metric {sweep.metric} is maximised there; here an objective is minimised")
        if "target" in metric:
            sweep.remarks.append(f"metric.target {show(metric['target'])} has no counterpart; see budget.target_per")
    if "early_terminate" in data:
        _early(data["early_terminate"], sweep)
    known = ("parameters", "method", "run_cap", "metric", "early_terminate", *_IGNORED)
    sweep.remarks += [f"{key} has no counterpart" for key in data if key not in known]
    return sweep


def _parameters(found: Mapping[str, Any], lead: str, sweep: Sweep) -> None:
    for key, about in found.items():
        name = f"{lead}{key}"
        if isinstance(about, dict) and isinstance(about.get("parameters"), dict):
            _parameters(about["parameters"], f"{name}.", sweep)
        elif not isinstance(about, dict):
            sweep.parameters.append(Parameter(name, show(about), None, ["is not a parameter as W&B writes it"]))
        elif "value" in about:
            sweep.fixed[name] = about["value"]
        else:
            sweep.parameters.append(_parameter(name, about))


def _parameter(name: str, about: Mapping[str, Any]) -> Parameter:
    kind = about.get("distribution") or _default_kind(about)
    words = ", ".join(f"{key} {show(value)}" for key, value in about.items() if key != "distribution")
    parameter = Parameter(name, f"{kind}: {words}" if kind else words)
    if kind in ("categorical", "categorical_w_probabilities") or (kind == "constant" and "values" in about):
        values = about.get("values")
        if not isinstance(values, list) or not values:
            parameter.remarks.append("has no list of values")
            return parameter
        parameter.entry = {"choice": list(values)}
        if "probabilities" in about:
            parameter.remarks.append("the probabilities of its values have no counterpart: all are as likely")
        return parameter
    make = _KINDS.get(str(kind))
    if make is None:
        parameter.remarks.append(f"the distribution {show(kind)} has no counterpart")
        return parameter
    try:
        parameter.entry = make(str(kind), about, parameter.remarks)
    except (KeyError, TypeError, ValueError, OverflowError):
        parameter.remarks.append(f"{kind} needs other numbers than these")
    return parameter


def _default_kind(about: Mapping[str, Any]) -> str | None:
    """What W&B takes where no distribution is named."""
    if "values" in about:
        return "categorical"
    if "mu" in about or "sigma" in about:
        return "normal"
    if not {"min", "max"} <= about.keys():
        return None
    return "int_uniform" if all(isinstance(about[end], int) for end in ("min", "max")) else "uniform"


def _range(kind: str, about: Mapping[str, Any], remarks: list[str]) -> Entry:
    low, high = about["min"], about["max"]
    if not (is_number(low) and is_number(high)):
        raise ValueError
    log = "log" in kind
    if kind in ("log_uniform", "q_log_uniform"):
        low, high = math.exp(low), math.exp(high)
    elif kind == "inv_log_uniform":
        low, high = math.exp(-high), math.exp(-low)
    low, high = tidy(low), tidy(high)
    if kind.startswith("q_"):
        step = tidy(about.get("q", 1))
        ends = [tidy(round(end / step) * step) for end in (low, high)]
        if log and ends[0] <= 0:
            remarks.append(f"0, to which values below {show(step / 2)} are rounded there, is left out")
            ends[0] = step
        return range_entry(*ends, log=log, step=step, whole=False)
    return range_entry(low, high, log=log, whole=kind == "int_uniform")


def _normal(kind: str, about: Mapping[str, Any], remarks: list[str]) -> Entry:
    mean, sd = about.get("mu", 0), about.get("sigma", 1)
    if not (is_number(mean) and is_number(sd)):
        raise ValueError
    remarks.append("is cut off at 4 standard deviations; `within: [low, high]` changes that")
    entry: Entry = {"log_normal" if "log" in kind else "normal": [mean, sd]}
    return {**entry, "q": tidy(about.get("q", 1))} if kind.startswith("q_") else entry


_KINDS = {
    **dict.fromkeys(
        (
            *("uniform", "int_uniform", "q_uniform", "log_uniform", "log_uniform_values", "q_log_uniform"),
            *("q_log_uniform_values", "inv_log_uniform", "inv_log_uniform_values"),
        ),
        _range,
    ),
    **dict.fromkeys(("normal", "q_normal", "log_normal", "q_log_normal"), _normal),
}


def _early(about: Any, sweep: Sweep) -> None:
    if not isinstance(about, dict) or about.get("type") != "hyperband":
        sweep.remarks.append(f"early_terminate {show(about)} has no counterpart; the default rule is used")
        return
    eta = about.get("eta", 3)
    first = about.get("min_iter")
    if first is None and is_number(about.get("max_iter")) and is_number(about.get("s")):
        first = max(1, round(about["max_iter"] / eta ** about["s"]))
    sweep.stopping = {"kind": "asha", "grace": first if isinstance(first, int) and first > 0 else 1, "reduction": eta}
    sweep.remarks.append(
        "early_terminate is asha here, and its iterations, the steps that were logged there, are epochs; "
        "--stopping 'asha at=horizon' compares at shares of each schedule"
    )
