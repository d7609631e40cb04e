"""Run files: reading, merging, overrides, provenance, and the lines a wrong file gets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from search_spaces import ABSENT, InputError, Run, diff, load_run, run_names
from search_spaces import config as config_module
from search_spaces.config import RunConfig, flatten, to_dict
from search_spaces.parsing.yaml_file import parse_value

ROOT = "schedule: {kind: one_cycle, peak_lr: 3e-3, start_lr: 1e-4, end_lr: 1e-6}\noptimizer: {eps: 1e-8}\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path | str, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_run(path, overrides)
    return [line.replace(str(Path(path).parent) + "/", "") for line in caught.value.problems]


@pytest.mark.parametrize("text", ["3e-3", "3E-3", "0.003", "+3e-3", "3.e-3", ".003"])
def test_floats_are_read_right(text: str) -> None:
    """Every way to write a rate is a number, also those that YAML 1.1 reads as text."""
    assert parse_value(text) == 0.003


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("off", "off"), ("no", "no"), ("none", "none"), ("null", None), ("~", None), ("010", 10),
     ("1_000", 1000), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("1e4", 1e4), ("[0.5, 1e-1]", [0.5, 0.1]),
     ("run16_5", "run16_5"), (".inf", float("inf")), ("-2", -2)],
)  # fmt: skip
def test_plain_words_and_numbers(text: str, value: object) -> None:
    """Words stay words, and leading zeros, colons and dates have no hidden meaning."""
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_all_problems_of_a_file_at_once(tmp_path: Path) -> None:
    """One reading shows every problem, each with file, path, value, what is allowed and the nearest name."""
    path = write(
        tmp_path,
        "a.yaml",
        """
purpse: x
schedule: {kind: one_cycle, peak_lr: 3e-3, start_lr: -1, end_lr: true, peek_lr: 3}
model: {hidden: 0, dropout: "0.3", bidirectional: yes}
optimizer: {kind: adan}
averaging: {decay: .9}
augmentation: 3
training: {clip: off, precision: fp8, btch_size: 3, batches_per_epoch: 2.5}
assumed: {schedule.end_lr: {value: 3, reason: x}, data.bins: {value: 1, reason: x}, model.layers: {value: 3}}
recorded: {per: -1}
""",
    )
    lines = problems(path)
    for expected in [
        "a.yaml: purpse: unknown key (value x); did you mean purpose? ",
        "a.yaml: schedule.start_lr: -1 is not allowed; give a number of 0 or more",
        "a.yaml: schedule.end_lr: true is not allowed; give a number of 0 or more",
        "a.yaml: schedule.peek_lr: unknown key (value 3); did you mean peak_lr? the keys of one_cycle are: peak_lr, ",
        "a.yaml: model.hidden: 0 is not allowed; give a whole number from 1 to 8192",
        'a.yaml: model.dropout: "0.3" is not allowed; give a number of 0 or more and below 1',
        "a.yaml: model.bidirectional: yes is not allowed; give true or false",
        "a.yaml: optimizer.kind: adan is not allowed; did you mean adam? give adam, adamw or sgd",
        "a.yaml: averaging.decay: unknown key (value 0.9); averaging.kind none does not have it, ema does; ",
        "a.yaml: augmentation: 3 is not allowed; give settings as `key: value`",
        "a.yaml: training.clip: off is not allowed; give a number above 0 or null",
        "a.yaml: training.precision: fp8 is not allowed; give fp32, bf16 or fp16",
        "a.yaml: training.btch_size: unknown key (value 3); did you mean batch_size? ",
        "a.yaml: training.batches_per_epoch: 2.5 is not allowed; give a whole number of 1 or more",
        "a.yaml: assumed.schedule.end_lr: is also given under schedule; remove one of the two",
        "a.yaml: assumed.data.bins: there is no such setting; did you mean data.max_bins?",
        "a.yaml: assumed.model.layers.reason: is missing; give text",
        "a.yaml: recorded.per: -1 is not allowed; give a number of 0 or more or null",
    ]:
        assert any(line.startswith(expected) for line in lines), (expected, lines)
    assert len(lines) == 18


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("schedule: {peak_lr: 1}\n", "a.yaml: schedule.kind: is missing; give constant, linear, "),
        ("model: {hidden: 3}\n", "a.yaml: schedule: is missing; give kind: constant, linear, "),
        ("schedule: {kind: linear, peak_lr: 1}\n", "a.yaml: schedule.end_lr: is missing; linear needs it; give a num"),
        ("schedule: {kind: [linear], peak_lr: 1}\n", "a.yaml: schedule.kind: [linear] is not allowed; did you mean li"),
        ("schedule: {kind: constant, peak_lr: .nan}\n", "a.yaml: schedule.peak_lr: nan is not allowed; give a number"),
        ("schedule: {kind: constant, peak_lr: 1, peak_lr: 2}\n", "a.yaml: line 1, column 40: 'peak_lr' is given twice"),
        ("schedule: {kind: constant\n", "a.yaml: line 2, column 1: "),
        ("- 1\n", "a.yaml: holds a list; write settings as `key: value`"),
        ("", "a.yaml: is empty; write the settings in it"),
        ("1: 2\n" + ROOT, "a.yaml: line 1, column 1: '1' is not a name (a key must be text); correct the YAML there"),
        (ROOT + "training: {batches: 10}\naveraging: {kind: swa, start_batch: 10}\n",
         "a.yaml: averaging.start_batch: 10 is at or after the end of the run (10 batches); give 9 or less"),
        ("schedule: {kind: multistep, peak_lr: 1, milestones: [0.5, 2]}\n",
         "a.yaml: schedule.milestones[1]: 2 is not allowed; give a list, each item a number from 0 to 1"),
        ("schedule: {kind: multistep, peak_lr: 1, milestones: [0.5, 0.2]}\n",
         "a.yaml: schedule: milestones [0.5, 0.2] must rise strictly"),
        (ROOT + "averaging: {kind: ema, decay: 0.9, decays: [0.9]}\n",
         "a.yaml: averaging: decay and decays are both given; leave one of them out"),
        (ROOT + "averaging: {kind: ema, decay: null}\n",
         "a.yaml: averaging: decay is null and there are no decays; give one of them"),
        (ROOT + "averaging: {kind: ema, decays: [0.9, 0.5]}\n",
         "a.yaml: averaging: decays [0.9, 0.5] must rise strictly"),
        (ROOT + "averaging: {kind: ema, decays: [0.9, 1]}\n", "a.yaml: averaging.decays[1]: 1 is not allowed; give a "),
        (ROOT + "averaging: {kind: ema, decays: []}\n", "a.yaml: averaging.decays: [] is not allowed; give a list"),
        (ROOT + "data: {features: 0-64}\n", "a.yaml: data.features: '0-64' is not allowed; give A:B, or some of "),
        (ROOT + "data: {features: '64:0'}\n", "a.yaml: data.features: '64:0' has no features; give A:B with A below B"),
    ],
)  # fmt: skip
def test_one_wrong_thing(tmp_path: Path, text: str, line: str) -> None:
    """Each kind of mistake gets a line that says what to give instead."""
    lines = problems(write(tmp_path, "a.yaml", text))
    assert any(given.startswith(line) for given in lines), lines


def test_day_layers_that_are_off_have_no_settings() -> None:
    """Each setting of the day layers that is given is named with its value, those that are null are not."""
    off = ("model.day_layers=false",)
    assert load_run("small", off).config.model.day_layers is False
    schedule, optimizer = ("schedule.day_peak_lr=1e-3", "schedule.day_end_lr=0"), ("optimizer.day_eps=1e-8",)
    for given in (schedule, optimizer, ("optimizer.day_weight_decay=0",), (*schedule, *optimizer)):
        lines = problems("small", *off, *given)
        assert [line.partition(", but")[0] for line in lines] == [
            f"--set {each}: {each.partition('=')[0]}: {float(each.partition('=')[2]):g} is given" for each in given
        ]
        assert all("but model.day_layers is false; give null or model.day_layers true" in line for line in lines)


def test_the_lowest_rate_of_day_layers_is_not_above_their_highest() -> None:
    """That is day_peak_lr, or peak_lr where it is null; the two may be equal."""
    linear = ("schedule.kind=linear", "schedule.peak_lr=0.01", "schedule.end_lr=0")
    for highest, given in (("0.01", ()), ("0.002", ("schedule.day_peak_lr=0.002",))):
        assert load_run("small", [*linear, *given, f"schedule.day_end_lr={highest}"]).config.days_apart
        (line,) = problems("small", *linear, *given, "schedule.day_end_lr=0.02")
        assert f"0.02 is above the day layers' highest rate {highest}; give {highest} or less" in line
    (line,) = problems("small", "schedule.kind=constant", "schedule.day_end_lr=0")
    assert "schedule.day_end_lr: schedule.kind constant has no end_lr; give null or another kind" in line


@pytest.mark.parametrize(
    ("given", "apart"),
    [
        ((), False),
        (("schedule.day_peak_lr=1e-3",), True),
        (("schedule.day_end_lr=0",), True),
        (("optimizer.day_weight_decay=0",), True),
        (("optimizer.day_eps=1e-8",), True),
        (("optimizer.kind=sgd",), False),
        (("optimizer.kind=sgd", "optimizer.day_weight_decay=0"), True),
    ],
)
def test_day_layers_are_apart_with_a_setting_of_their_own(given: tuple[str, ...], apart: bool) -> None:
    """Also where it is 0; SGD, which has no eps, is asked for the others."""
    assert load_run("small", given).config.days_apart is apart


@pytest.mark.parametrize(("batches", "epochs"), [(1, 1), (99, 1), (100, 1), (101, 2), (1000, 10)])
def test_the_last_epoch_may_be_shorter(batches: int, epochs: int) -> None:
    """A run of 100 batches an epoch has an epoch more for a rest, and one for fewer than that. The horizon is in
    batches: those of the whole run unless the schedule says otherwise.
    """
    config = load_run("small", [f"training.batches={batches}", "training.batches_per_epoch=100"]).config
    assert (config.epochs, config.horizon) == (epochs, batches)
    assert load_run("small", ["schedule.horizon=77"]).config.horizon == 77


def test_a_section_may_be_one_that_was_made_before() -> None:
    """A configuration is also made of sections, not only of the plain settings of a file; what is neither is refused as
    it was given.
    """
    averaging = config_module.EMAConfig(decays=(0.9, 0.99))
    schedule = config_module.ConstantSchedule(peak_lr=0.01)
    config = RunConfig(schedule=schedule, averaging=averaging)
    assert (config.averaging, config.averaging.decay, config.schedule) == (averaging, None, schedule)
    assert RunConfig.model_validate(to_dict(config)) == config
    with pytest.raises(ValidationError) as caught:
        config_module.EMAConfig.model_validate(0.999)
    assert [error["input"] for error in caught.value.errors()] == [0.999]


def test_a_child_says_only_what_changes(tmp_path: Path) -> None:
    """Everything else comes from the parent, and the difference is told."""
    write(tmp_path, "root.yaml", ROOT)
    run = load_run(write(tmp_path, "child.yaml", "from: root.yaml\nschedule: {peak_lr: 5e-3}\n"))
    assert run.parent == "root"
    assert run.changed == {"schedule.peak_lr": 0.005}
    assert run.config.optimizer.eps == 1e-8


def test_another_kind_drops_what_it_lacks(tmp_path: Path) -> None:
    """Keys the new kind lacks go, shared ones stay, and a default of the old kind does not come along."""
    write(tmp_path, "root.yaml", ROOT.replace("optimizer: {eps: 1e-8}", "optimizer: {beta1: 0.8}"))
    text = "from: root.yaml\nschedule: {kind: constant}\noptimizer: {kind: adamw}\n"
    config = load_run(write(tmp_path, "child.yaml", text)).config
    schedule = {key: value for key, value in to_dict(config)["schedule"].items() if not key.startswith("day_")}
    assert schedule == {"kind": "constant", "peak_lr": 0.003, "horizon": None}
    assert (config.optimizer.kind, config.optimizer.beta1, config.optimizer.eps) == ("adamw", 0.8, 1e-8)


def test_the_same_kind_again_drops_nothing(tmp_path: Path) -> None:
    """Naming the parent's kind, given or by default, is no change."""
    write(tmp_path, "root.yaml", ROOT)
    text = "from: root.yaml\nschedule: {kind: one_cycle}\noptimizer: {kind: adam}\n"
    assert load_run(write(tmp_path, "child.yaml", text)).changed == {}


def test_overrides_apply_together() -> None:
    """Their order does not matter, of two for one path the later counts, and values are typed."""
    first = load_run("small", ["schedule.end_lr=0", "schedule.kind=linear", "training.clip=null"])
    second = load_run("small", ["training.clip=null", "schedule.kind=linear", "schedule.end_lr=1", "schedule.end_lr=0"])
    assert first.config == second.config
    assert first.config.training.clip is None
    assert load_run("small", ["training.batches=1e4"]).config.training.batches == 10_000


def test_problems_of_overrides_name_the_override() -> None:
    """An override that is wrong is quoted as typed; one that clashes with the file names both."""
    lines = problems(
        "small", "schedule.peak_lr=-1", "training.batchs=3", "peak_lr=3", "model.layers=", "x", "model.a=["
    )
    assert lines[:3] == [
        "--set training.batchs=3: training.batchs: there is no such setting; did you mean training.batches?",
        "--set peak_lr=3: peak_lr: there is no such setting; did you mean schedule.peak_lr?",
        "--set model.layers=: has no value; write it as section.key=value, null for none",
    ]
    assert (
        "--set schedule.peak_lr=-1: schedule.peak_lr: -1 is not allowed; give a number above 0 and at most 10" in lines
    )
    assert problems("small", "schedule.peak_lr=1e-6") == [
        "small.yaml: schedule.end_lr: 3e-06 is above schedule.peak_lr 1e-06; give 1e-06 or less "
        "(schedule.peak_lr is from --set schedule.peak_lr=1e-6)",
        "small.yaml: schedule.start_lr: 0.00012 is above schedule.peak_lr 1e-06; give 1e-06 or less "
        "(schedule.peak_lr is from --set schedule.peak_lr=1e-6)",
    ]


def test_problems_of_a_parent_name_the_parent(tmp_path: Path) -> None:
    """A wrong value that a child inherits is reported where it stands."""
    write(tmp_path, "root.yaml", ROOT + "model: {layers: 0}\nremark: []\n")
    lines = problems(write(tmp_path, "child.yaml", "from: root.yaml\nmodel: {hidden: 0}\n"))
    assert [line.partition(" ")[0] for line in lines].count("child.yaml:") == 1
    assert any("root.yaml (parent of " in line and ": model.layers: 0 is not allowed" in line for line in lines)
    assert any("root.yaml (parent of " in line and ": remark: unknown key" in line for line in lines)


def test_a_parent_must_be_a_run_itself(tmp_path: Path) -> None:
    """A child that repairs its parent's mistake does not hide it."""
    write(tmp_path, "root.yaml", ROOT + "model: {layers: 0}\n")
    lines = problems(write(tmp_path, "child.yaml", "from: root.yaml\nmodel: {layers: 1}\n"))
    assert lines == ["root.yaml: model.layers: 0 is not allowed; give a whole number from 1 to 16"]


def test_a_circle_of_parents(tmp_path: Path) -> None:
    """A run that comes from itself is one line that shows the way round."""
    write(tmp_path, "a.yaml", "from: b.yaml\n" + ROOT)
    lines = problems(write(tmp_path, "b.yaml", "from: a.yaml\n"))
    assert lines == ["a.yaml: from: b is not allowed; the runs would form a circle: b -> a -> b"]


def test_an_unknown_parent_or_run(tmp_path: Path) -> None:
    """A name that is no run gets its nearest neighbour and the list of all."""
    lines = problems(write(tmp_path, "a.yaml", "from: run16_6\n"))
    assert lines[0].startswith(
        "a.yaml: from: run16_6: there is no run of this name and no such file; did you mean run16_"
    )
    assert problems("smal")[0].startswith("smal: there is no run of this name and no such file; did you mean small? ")
    assert "speechBaseline4" in problems("smal")[0]


def test_a_file_wins_over_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`small.yaml` in the working folder is that file; `small` is still the shipped run."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "small.yaml", "from: small\nmodel: {hidden: 7}\n")
    assert load_run("small.yaml").config.model.hidden == 7
    assert load_run("small").config.model.hidden == 128


def test_unreadable_files(tmp_path: Path) -> None:
    """Bytes that are no text, and a folder, are one line each."""
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    assert problems(tmp_path / "a.yaml") == ["a.yaml: cannot be read: it is not UTF-8 text; give a YAML file"]
    assert "there is no run of this name" in problems(tmp_path)[0]


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    """Files are remembered only as long as they stay the same."""
    path = write(tmp_path, "a.yaml", ROOT)
    assert load_run(path).config.model.hidden == 256
    write(tmp_path, "a.yaml", ROOT + "model: {hidden: 12}\n")
    assert load_run(path).config.model.hidden == 12


def test_assumptions_are_applied_inherited_and_replaced(tmp_path: Path) -> None:
    """An assumed value holds, is passed on with the run it comes from, and ends where a child gives the value."""
    write(tmp_path, "root.yaml", ROOT + "assumed: {model.layers: {value: 2, reason: guess}}\n")
    keeps = load_run(write(tmp_path, "keeps.yaml", "from: root.yaml\n"))
    gives = load_run(write(tmp_path, "gives.yaml", "from: root.yaml\nmodel: {layers: 2}\n"))
    assert keeps.config.model.layers == 2
    assert keeps.assumed == {"model.layers": {"value": 2, "reason": "guess", "run": "root"}}
    assert gives.assumed == {}
    assert load_run(tmp_path / "keeps.yaml", ["model.layers=2"]).assumed == {}


def test_diff_shows_absent_keys() -> None:
    """A key that one kind lacks is absent on that side; equal numbers of different types are equal."""
    left = load_run("small").config
    right = load_run("small", ["schedule.kind=constant", "training.clip=5.0"]).config
    assert diff(left, left) == {}
    assert diff(left, right) == {
        "schedule.kind": ("one_cycle", "constant"),
        "schedule.start_lr": (1.2e-4, ABSENT),
        "schedule.end_lr": (3e-6, ABSENT),
        "schedule.peak_fraction": (0.3, ABSENT),
    }


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {name: load_run(name) for name in run_names()}


def test_the_shipped_runs(runs: dict[str, Run]) -> None:
    """All 23 recorded runs load, and besides them the two small ones."""
    recorded = {name for name, run in runs.items() if run.phase}
    assert len(recorded) == 23
    assert set(runs) - recorded == {"small", "quickstart", "baseline_t15", "baseline_t12_masked"}


def test_every_shipped_run_says_its_eps(runs: dict[str, Run]) -> None:
    """Adam's eps is written in each file, and only the references have the large one."""
    for name, run in runs.items():
        assert "eps" in run.path.read_text(encoding="utf-8"), name
        assert run.config.optimizer.eps == (
            0.1 if name in ("speechBaseline4", "baseline_t15", "baseline_t12_masked") else 1e-8
        )


def test_guesses_have_reasons(runs: dict[str, Run]) -> None:
    """No assumption without a reason, and each is the value in the configuration."""
    for run in runs.values():
        flat = flatten(run.config)
        for path, entry in run.assumed.items():
            assert len(entry["reason"]) > 10
            assert flat[path] == entry["value"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("speechBaseline4", {"schedule.kind": "constant", "schedule.peak_lr": 0.02, "model.hidden": 1024,
                             "augmentation.white_noise": 0.8, "training.clip": None, "optimizer.eps": 0.1}),
        ("gru_ctc_reg2", {"schedule.warmup_batches": 1000, "training.precision": "fp16", "training.clip": 1.0,
                          "augmentation.input_dropout": 0.1, "schedule.end_lr": 0.005}),
        ("gru_ctc_reg6", {"schedule.kind": "constant", "schedule.peak_lr": 0.0015, "training.precision": "bf16"}),
        ("run8_recovery", {"schedule.peak_lr": 0.001, "augmentation.white_noise": 0, "training.clip": 5.0,
                           "training.precision": "fp32", "training.accumulation": 1}),
        ("run11_plateau_break", {"schedule.kind": "one_cycle", "schedule.peak_fraction": 0.15,
                                 "training.accumulation": 2, "schedule.end_lr": 4e-6}),
        ("run12_baseline_hybrid", {"model.layer_norm": True, "augmentation.time_masks": 2, "training.clip": 1.5,
                                   "training.accumulation": 1, "schedule.peak_lr": 0.02}),
        ("run14_onecycle_tuned", {"schedule.peak_lr": 0.004, "training.batch_size": 32, "training.clip": 1.0}),
        ("run15_warmup_cosine_safe", {"schedule.kind": "warmup_cosine", "schedule.warmup_batches": 1200,
                                      "averaging.kind": "none"}),
        ("run16_5", {"schedule.peak_lr": 0.001, "schedule.end_lr": 1e-7, "training.batches": 20000,
                     "averaging.decay": 0.9995, "augmentation.input_dropout": 0.05, "training.precision": "bf16",
                     "training.batch_size": 32, "training.accumulation": 2, "optimizer.weight_decay": 1e-5}),
        ("run17_greedy_ema_fastcos", {"schedule.warmup_batches": 1000, "training.batches": 5200,
                                      "augmentation.input_dropout": 0, "schedule.peak_lr": 0.0012}),
        ("run18_long_sgdr_swa", {"schedule.kind": "sgdr", "averaging.kind": "swa"}),
    ],
)  # fmt: skip
def test_runs_are_as_the_changelog_says(runs: dict[str, Run], name: str, expected: dict[str, object]) -> None:
    """The values that the changelog gives for a run are its configuration."""
    flat = flatten(runs[name].config)
    assert {path: flat.get(path) for path in expected} == expected


def test_the_recorded_runs_say_that_tf32_is_assumed(runs: dict[str, Run]) -> None:
    """No page names it: each of the 23 runs has torch's default, as an assumption with its reason."""
    for run in (run for run in runs.values() if run.phase):
        assert run.config.training.tf32 is None
        assert "torch's default" in run.assumed["training.tf32"]["reason"]


def test_repeats_and_results_of_the_changelog(runs: dict[str, Run]) -> None:
    """The page's duplicates are equal configurations, and its results are recorded with their decoder."""
    for name in ("gru_ctc_reg7", "run10_recovery", "run16_2"):
        assert runs[name].changed == {}
        assert runs[name].remarks
    assert {name: run.recorded["per"] for name, run in runs.items() if "per" in run.recorded} == {
        "speechBaseline4": 0.2046, "gru_ctc_reg1": 0.93, "run11_plateau_break": 0.2830,
        "run15_warmup_cosine_safe": 0.2636, "run16_greedy_ema_warmcos": 0.2095, "run16_2": 0.9111,
        "run16_3": 0.2084, "run16_4": 0.2078, "baseline_t12_masked": 0.1602,
    }  # fmt: skip
    assert runs["run16_5"].recorded["per_beam"] == 0.5460
    assert any("0.999" in remark and "0.9995" in remark for remark in runs["run16_5"].remarks)
    assert any("0.01" in remark and "0.004" in remark for remark in runs["run13_onecycle_safe"].remarks)


def test_what_the_page_does_not_say_is_assumed(runs: dict[str, Run]) -> None:
    """Of runs whose entry is nearly empty, the network, the masks, the batch and the decoder are named as guesses."""
    network = {f"model.{key}" for key in ("hidden", "layers", "dropout", "kernel", "stride", "bidirectional")}
    masks = {f"augmentation.{key}" for key in ("input_dropout", "time_masks", "feature_masks")}
    assert network | masks | {"optimizer.weight_decay"} <= set(runs["gru_ctc_reg1"].assumed)
    batch = {f"training.{key}" for key in ("batch_size", "accumulation", "clip", "precision")}
    assert batch <= set(runs["run18_long_sgdr_swa"].assumed)
    baseline = runs["speechBaseline4"]
    assert {"optimizer.kind", "optimizer.eps"} <= set(baseline.assumed)
    assert set(baseline.recorded["assumed"]) == {"decoder", "averaging"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("run8_recovery", "never had either"),
        ("run8_recovery", "unknown or none"),
        *((name, "has all four already") for name in ("run13_onecycle_safe", "run15_warmup_cosine_safe")),
        ("run11_plateau_break", "has it at 0.0 already"),
        *((f"gru_ctc_reg{number}", "~0.93") for number in range(1, 8)),
        ("run16_5", "credits BF16 and the small input dropout"),
    ],
)
def test_contradictions_of_the_page_are_remarked(runs: dict[str, Run], name: str, said: str) -> None:
    """Where an entry contradicts another, its run says so."""
    assert any(said in remark for remark in runs[name].remarks)


def test_what_is_not_from_the_page_has_a_source(runs: dict[str, Run]) -> None:
    """A text that relies on the runs' files or on a trainer's code names where they are."""
    texts = [(name, text) for name, run in runs.items() for text in run.remarks]
    texts += [(name, entry["reason"]) for name, run in runs.items() for entry in run.assumed.values()]
    for name, text in texts:
        if re.search(r"fork|train\.log|metrics\.jsonl|the trainer|\bcode\b", text):
            assert "github.com/" in text, (name, text)


def test_every_value_of_run18_is_assumed(runs: dict[str, Run]) -> None:
    """The page knows nothing of run18 but its name, so nothing that it changes is given as known."""
    run = runs["run18_long_sgdr_swa"]
    assert set(run.changed) <= set(run.assumed)


DEFAULTS = {
    "data.max_bins": None,
    "data.bucket_batches": 16,
    "data.days_per_batch": None,
    "data.features": None,
    "model.hidden": 256,
    "model.layers": 3,
    "model.bidirectional": True,
    "model.dropout": 0.4,
    "model.kernel": 32,
    "model.stride": 4,
    "model.day_layers": True,
    "model.layer_norm": False,
    "model.day_dropout": 0.0,
    "model.residual": False,
    "model.learned_start": False,
    "model.head_layers": 0,
    "model.head_kind": "residual",
    "model.head_norm": "layer",
    "model.head_activation": "gelu",
    "model.head_dropout": 0.1,
    "optimizer.kind": "adam",
    "optimizer.eps": 0.1,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.weight_decay": 1e-05,
    "optimizer.decay_biases": True,
    "optimizer.decay_day_layers": True,
    "optimizer.day_weight_decay": None,
    "optimizer.day_eps": None,
    "averaging.kind": "none",
    "augmentation.white_noise": 0.0,
    "augmentation.constant_offset": 0.0,
    "augmentation.smoothing_sd": 2.0,
    "augmentation.smoothing_kernel": 20,
    "augmentation.time_masks": 0,
    "augmentation.time_mask_width": 0.05,
    "augmentation.feature_masks": 0,
    "augmentation.feature_mask_width": 0.05,
    "augmentation.input_dropout": 0.0,
    "augmentation.speckle": 0.0,
    "augmentation.random_cut": 0,
    "augmentation.speckle_features": 0.0,
    "augmentation.speckle_frames": 0.0,
    "augmentation.gain_noise": 0.0,
    "augmentation.random_walk": 0.0,
    "augmentation.random_walk_over": "time",
    "augmentation.smoothing_even": False,
    "training.batches": 10000,
    "training.batches_per_epoch": 100,
    "training.batch_size": 64,
    "training.accumulation": 1,
    "training.clip": None,
    "training.ctc_reduction": "target_mean",
    "training.precision": "fp32",
    "training.tf32": None,  # was False: the reference never said so, and on a card it was slower for nothing
    "training.graphs": "auto",
    "training.device": "auto",
    "training.seed": 0,
    "training.init_from": None,
}


def test_what_a_run_file_leaves_out_is_what_it_always_was() -> None:
    """A default that changes would change what old files, and old studies, mean."""
    flat = flatten(RunConfig.model_validate({"schedule": {"kind": "constant", "peak_lr": 0.01}}))
    assert {key: value for key, value in flat.items() if not key.startswith("schedule.")} == DEFAULTS


@pytest.mark.parametrize(("bins", "allowed"), [(1, True), (0, False)])
def test_a_limit_of_length_is_at_least_one_bin(bins: int, allowed: bool) -> None:
    """data.max_bins 1 is a limit, 0 is none."""
    settings = {"schedule": {"kind": "constant", "peak_lr": 0.01}, "data": {"max_bins": bins}}
    if allowed:
        assert RunConfig.model_validate(settings).data.max_bins == 1
    else:
        with pytest.raises(ValueError, match="max_bins"):
            RunConfig.model_validate(settings)


def ranges():
    """Key -> (default, bounds) of every number and choice of a run, by the section's class."""
    found = {}
    for name, model in sorted(vars(config_module).items()):
        if not (isinstance(model, type) and issubclass(model, config_module.Section)):
            continue
        for key, field in model.model_fields.items():
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            bounds = sorted(str(each) for each in field.metadata)
            if not isinstance(default, config_module.Section):
                found[f"{name}.{key}"] = [list(default) if isinstance(default, tuple) else default, bounds]
    return found


def test_defaults_and_bounds_are_those_that_old_run_files_rely_on():
    """A key that a run file leaves out has the default it had when the file was written, and a file that was accepted
    is accepted still. The fixture has a line for each key; a new key gets
    its own, and a default or a bound that is changed on purpose is changed there too.
    """
    expected = json.loads((Path(__file__).parents[1] / "fixtures" / "run_ranges.json").read_text())
    assert ranges() == expected
