"""The changelog page: written from the tables alone, it finds what the hand-kept page misses and claims no more."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from results.changelog.effects import effects
from results.changelog.findings import findings
from results.changelog.page import changelog, md, write_page
from results.changelog.run_history import RunHistory
from results.changelog.summary import compared, difference, glance
from results.changelog.techniques import brought, next_step, techniques
from search_spaces.errors import InputError
from tuner.cli import main

BASE = {
    "model": {"hidden": 128, "layer_norm": False},
    "optimizer": {"kind": "adam", "eps": 0.1},
    "schedule": {"kind": "warmup_cosine", "peak_lr": 0.002, "end_lr": 1e-5, "warmup_batches": 100, "horizon": None},
    "averaging": {"kind": "ema", "decay": 0.9995},
    "augmentation": {"white_noise": 0.3, "input_dropout": 0.0},
    "training": {"batches": 1000, "batches_per_epoch": 100, "clip": 1.0, "accumulation": 2, "precision": "bf16"},
}


def settings(**changes: Any) -> dict[str, Any]:
    """BASE with values changed by `section_key`."""
    made = {section: dict(values) for section, values in BASE.items()}
    for name, value in changes.items():
        section, key = name.split("_", 1)
        made[section][key] = value
    return made


@pytest.fixture
def study(tmp_path, studies):
    """Makes a study of runs: dicts of run, pers, config and the fields of `trial_started` and `trial_ended`."""

    def make(runs: list[dict[str, Any]], name: str = "s", **about: Any) -> Path:
        data = {"name": "syn", "path": "p", "fingerprint": "f", "val_phonemes": 24_700}
        events = [studies.started(**{"data": data, "searcher": {"kind": "tpe", "startup_trials": 2}, **about})]
        for number, run in enumerate(runs):
            run = dict(run)
            epochs, pers = run.pop("epochs", {}), run.pop("pers", [])
            ended = {key: run.pop(key) for key in ("best_per", "last_per", "batches") if key in run}
            status, config = run.pop("status", "completed"), run.pop("config", BASE)
            first, *rows, last = studies.trial(number, pers, status=status, config=config, seed=run.pop("seed", 0))
            origin = "recorded" if "run" in run else "searched"
            events += [{**first, "origin": origin, **run}, *({**row, **epochs} for row in rows), {**last, **ended}]
        studies.write_log(tmp_path / name, events)
        return tmp_path

    return make


@pytest.fixture
def history(study):
    return lambda runs, **about: RunHistory.load(study(runs, **about), "s")


def kinds(history: RunHistory) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in findings(history):
        found.setdefault(finding.kind, []).append(finding.text)
    return found


def run(name: str, per: float | None = None, parent: str | None = None, purpose: str = "", **fields: Any) -> dict:
    result = {} if per is None else {"best_per": per, "last_per": per}
    config = settings(**{key: fields.pop(key) for key in list(fields) if key.split("_")[0] in BASE})
    return {"run": name, "parent": parent, "purpose": purpose, "config": config, **result, **fields}


# ---- the recorded history


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    from tuner.planned.past import add_recorded

    folder = tmp_path_factory.mktemp("results")
    add_recorded(folder, "recorded")
    return folder


def test_the_recorded_history_is_seen_through(recorded):
    """From the tables alone: the repeats, the incomplete, the contradictions, the wrong beam, the test set."""
    found = kinds(RunHistory.load(recorded, "recorded"))
    for pair in (
        "gru_ctc_reg6 and gru_ctc_reg7",
        "run8_recovery and run10_recovery",
        "run16_greedy_ema_warmcos and run16_2",
    ):
        assert any(text.startswith(pair) for text in found["Identical configurations"])
    against = found["Purpose against configuration"]
    assert any(text.startswith("run16_5:") and "0.999'" in text and "0.9995" in text for text in against)
    assert any(text.startswith("run13_onecycle_safe:") and "0.01 is lower than 0.004" in text for text in against)
    assert any(text.startswith("run17_") and "'Stronger EMA'" in text for text in against)
    beam = found["Beam search far from greedy"]
    assert [text.split(":")[0] for text in beam] == [
        "run11_plateau_break",
        "run15_warmup_cosine_safe",
        "run16_5",
    ]
    incomplete = " ".join(found["Incomplete runs"])
    assert "run16_2: interrupted" in incomplete
    assert "run18_long_sgdr_swa: interrupted" in incomplete
    assert any("test set" in text for text in found["Selection on the set that is reported"])
    assert any(text.startswith("gru_ctc_reg1") for text in found["Collapse"])


def test_the_recorded_best_run_is_the_baseline(recorded):
    """The page's best run has no greedy PER; the lowest one recorded is the baseline's, tied with run16_4's."""
    text = changelog(recorded, "recorded").text
    best = text[text.index("## Best configuration") : text.index("## What a page")]
    assert "**speechBaseline4**: 0.2046" in best
    assert "It is a tie with: run16_4 (0.2078)" in best
    assert "run16_5" not in best


def test_differences_inside_the_noise_are_ties(recorded):
    """run16_3 against run16_2 (whose result is void, so against its twin) and run16_4 against run16_3 are ties."""
    text = changelog(recorded, "recorded").text
    ties = text[text.index("**Ties:**") : text.index("**Not known:**")]
    assert "run16_3 against run16_greedy_ema_warmcos: a tie, 0.0011 lower" in ties
    assert "run16_4 against run16_3: a tie, 0.0006 lower" in ties
    worked = text[text.index("**What worked:**") : text.index("**What did not work:**")]
    assert "run15_warmup_cosine_safe against run11_plateau_break: better" in worked
    assert "settings changed at once" in worked


def test_the_page_has_the_form_of_the_one_kept_by_hand(recorded):
    """All runs at a glance, phases in order with each run's changes and purpose, what was learnt, a timeline."""
    text = changelog(recorded, "recorded").text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[:3] == ["All runs at a glance", "Baseline", "Phase 1: Initial Experiments"]
    assert headings[-5:] == [
        "Summary of what was learnt",
        "What each technique brought",
        "Best configuration",
        "What a page kept by hand misses",
        "Timeline",
    ]
    section = text[text.index("- **run16_4**") : text.index("- **run16_5**")]
    assert "- **run16_4**: 0.2078 ± 0.0090" in section
    assert "  - Changed from run16_3: schedule.peak_lr 1.4e-3 (was 1.6e-3)" in section
    assert "Noted by hand: Slightly better PER" in section
    assert len(text.splitlines()) < 200


def test_what_the_program_remarks_is_not_said_to_be_noted_by_hand(recorded):
    """The page's own words, the program's remarks and what is assumed are told apart, for every run."""
    text = changelog(recorded, "recorded").text
    remark = "With optimizer.eps at 0.1 here and at 1e-8 in later runs"
    (line,) = [line for line in text.splitlines() if remark in line]
    by_hand = line[line.index("Noted by hand:") : line.index(" · Remarks:")]
    assert (
        by_hand
        == "Noted by hand: Constant high rate with strong noise and offset; every later run is compared with it."
    )
    assert line.endswith("Assumed: optimizer.kind, optimizer.eps, training.tf32, training.clip and 1 more")


def test_runs_of_different_length_are_said_to_differ_in_budget(recorded, history):
    """A warning with the lengths stands above the table; equal lengths have none."""
    text = changelog(recorded, "recorded").text
    assert (
        "**Warning:** the runs differ in budget: 16 have 10000 batches, 3 about as many, run16_5 20000, "
        "run16_sub20 16000, run17" in text
    )
    h = history([run("a", 0.3), run("b", 0.25, "a", training_batches=3000)])
    assert difference(h.compare(*h.trials)).endswith(", with 3000 batches against 1000")
    assert not any("Warning" in line for line in glance(history([run("a", 0.3), run("b", 0.25, "a")])))


def test_a_recorded_run_that_was_trained_here_stands_beside_its_record(study):
    """The recorded PER and what is said of it are in the table at a glance, with `replicate` runs of those names."""
    runs = [
        run("speechBaseline4", 0.31, origin="replicate"),
        run("gru_ctc_reg1", 0.5, "speechBaseline4", origin="replicate", model_hidden=64),
        run("mine", 0.5, "speechBaseline4", origin="replicate", model_hidden=32, note="my note"),
    ]
    text = changelog(study(runs), "s").text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in rows[0].strip("|").split("|")][3] == "recorded"
    assert "0.2046 (greedy)" in rows[2]
    assert "0.9300 (decoder unknown, approximate)" in rows[3].replace("\\", "")
    assert "Noted by hand: my note" in text


def test_a_technique_that_changed_alone_is_told_from_one_that_never_did(history):
    """EMA alone made it better; noise changed only together with clipping, and the next run to make says so."""
    h = history(
        [
            run("a", 0.30, averaging_kind="none", averaging_decay=None),
            run("b", 0.20, "a"),
            run("c", 0.25, "b", augmentation_white_noise=0.6, training_clip=5.0),
        ]
    )
    comparisons = [compared(h, row) for row in h.trials]
    found = {each.name: each for each in techniques(h, [each for each in comparisons if each is not None])}
    best = h.trials[1]
    assert set(found) == {"weight averaging", "augmentation", "clipping"}
    assert brought(h, found["weight averaging"]) == "alone: b better (-0.1000)"
    assert next_step(h, found["weight averaging"], best) == "keep it; go further in this direction"
    assert brought(h, found["clipping"]) == "never alone; with other changes 1 worse"
    assert next_step(h, found["clipping"], best) == "b with training.clip 5 and nothing else changed"


# ---- single findings


def test_a_right_history_has_no_contradictions(history):
    """Purposes that agree with their configurations, in several wordings, are not flagged."""
    purpose = "Warmup→Cosine (no OneCycle), EMA=0.9995, bf16/amp, grad_accum=2, clip=1.0, lower peak LR (0.002), no SWA"
    runs = [run("a", 0.3, schedule_peak_lr=0.004), run("b", 0.2, "a", purpose)]
    assert "Purpose against configuration" not in kinds(history(runs))


@pytest.mark.parametrize(
    ("purpose", "said"),
    [
        ("EMA 0.999", "averaging.decay is 0.9995"),
        ("max_lr=0.01", "schedule.peak_lr is 0.002"),
        ("baseline LR (0.02)", "schedule.peak_lr is 0.002"),
        ("Clip=5.0", "training.clip is 1"),
        ("accumulation 4", "training.accumulation is 2"),
        ("noise (0.8)", "white_noise is 0.3"),
        ("warmup=1500", "warmup_batches is 100"),
        ("fp32 throughout", "precision is bf16"),
        ("OneCycleLR", "schedule.kind is warmup_cosine"),
        ("SWA at the end", "averaging.kind is ema"),
        ("with LayerNorm", "which is off"),
        ("a tiny input dropout", "which is off"),
        ("higher peak LR", "went from 0.004 (a) to 0.002"),
        ("a longer warm-up", "warmup_batches is 100 as in a"),
        ("tighter clipping", "training.clip is 1 as in a"),
    ],
)
def test_a_purpose_that_contradicts_its_configuration(history, purpose, said):
    """Numbers, terms and comparisons with the parent that are not so are flagged, each once, with what is so."""
    runs = [run("a", 0.3, schedule_peak_lr=0.004), run("b", 0.2, "a", purpose)]
    (text,) = kinds(history(runs))["Purpose against configuration"]
    assert text.startswith("b: ")
    assert said in text


def test_a_run_again_at_another_scale_is_held_against_the_first_that_said_so(history):
    """Where decays were scaled, `EMA=0.999` means what the first run that says it has; precision is the machine's."""
    said = "EMA=0.999, bf16"
    runs = [
        run("a", 0.3, None, said, averaging_decay=0.98, training_precision="fp32", origin="replicate"),
        run("b", 0.3, "a", said, averaging_decay=0.98, training_precision="fp32", origin="replicate", model_hidden=64),
        run("c", 0.3, "b", said, averaging_decay=0.99, training_precision="fp32", origin="replicate"),
    ]
    (text,) = kinds(history(runs))["Purpose against configuration"]
    assert text == "c: the purpose says 'EMA=0.999' (0.98 at this length, as in a), averaging.decay is 0.99"


def test_collapse_is_dated(history):
    """A run that ends in blanks is flagged with the epoch since when; one stopped in CTC's first blanks is not."""
    runs = [
        run("fell", pers=[0.95, 0.5, 0.93, 0.96], epochs={"blank_share": 0.99}),
        run("never", pers=[0.95] * 10, epochs={"blank_share": 0.7}, model_hidden=64),
        run("early", pers=[1.0, 1.0], epochs={"blank_share": 1.0}, status="stopped", model_hidden=32),
        run("fine", pers=[1.0, 0.5, 0.3], epochs={"blank_share": 0.8}, model_hidden=16),
    ]
    texts = kinds(history(runs))["Collapse"]
    assert len(texts) == 2
    assert "fell: blank collapse (99% of frames are blank)" in texts[0]
    assert "since epoch 3" in texts[0]
    assert "never: learnt nothing" in texts[1]
    assert "from the first epoch on" in texts[1]


def test_divergence_is_dated(history):
    """Not-a-number and falling back from a good PER are told apart, each with its epoch."""
    runs = [
        run("nan", pers=[0.9, None], status="diverged"),
        run("back", pers=[0.9, 0.3, 0.4], model_hidden=64),
        run("fine", pers=[0.9, 0.3, 0.31], model_hidden=32),
    ]
    found = kinds(history(runs))
    assert found["Divergence"] == ["nan: the loss or the gradient was NaN or infinite at epoch 2 (batch 200)"]
    assert found["Got worse again"] == ["back: fell back from 0.3000 at epoch 2 to 0.4000 at epoch 3"]


def test_a_schedule_that_never_completed(history):
    """A horizon beyond the run, or a run that ended before it, is flagged with the rate; a constant rate is not."""
    runs = [
        run("long", pers=[0.5] * 10, schedule_horizon=2000),
        run("short", pers=[0.5] * 5, status="interrupted"),
        run("whole", pers=[0.5] * 10, model_hidden=64),
        run("flat", pers=[0.5] * 5, status="interrupted", schedule_kind="constant"),
    ]
    texts = kinds(history(runs))["Schedules that never completed"]
    assert [text.split(":")[0] for text in texts] == ["long", "short"]
    assert "a schedule for 2000 batches ended after 1000 batches; the rate ended at 1e-2" in texts[0]


def test_equal_configurations_with_other_seeds_are_replicates(history):
    """The same configuration with another seed is no mistake; it measures the noise that ties are judged by."""
    pers = [0.20, 0.22, 0.21, 0.23]
    h = history([run(f"r{seed}", per, seed=seed) for seed, per in enumerate(pers)] + [run("x", 0.2, model_hidden=64)])
    (text,) = kinds(h)["Identical configurations"]
    assert "seeds 0, 1, 2, 3, replicates" in text
    assert h.spread(h.trials[0]).degrees == 3
    assert h.spread(h.trials[0]).sd == pytest.approx(0.0129, abs=1e-4)
    assert h.compare(h.trials[0], h.trials[4]).verdict == "tie"
    assert "One seed each" not in kinds(h)


def test_the_assumed_noise_is_the_published_one(history):
    """At PER 0.2046 on 24,700 phonemes: 0.0013 over seeds, 0.0044 over sentences, and 0.0036 between two runs."""
    h = history([run("a", 0.2046), run("b", 0.2081, "a", model_hidden=64), run("c", 0.2084, "a", model_hidden=32)])
    a, b, c = h.trials
    assert h.spread(a).sd == pytest.approx(0.0013, abs=2e-5)
    assert h.interval(a) == pytest.approx(1.96 * (0.0013**2 + 0.0044**2) ** 0.5, abs=1e-4)
    assert (h.compare(a, b).verdict, h.compare(a, c).verdict) == ("tie", "worse")


def test_a_run_is_compared_with_the_nearest_ancestor_that_has_a_result(history):
    """A parent without a PER, or an interrupted one, is passed over; a cycle of parents ends."""
    h = history(
        [
            run("a", 0.3),
            run("b", None, "a", model_hidden=64),
            run("c", 0.9, "b", status="interrupted", model_hidden=32),
            run("d", 0.2, "c", model_hidden=16),
            run("e", 0.2, "f", model_hidden=8),
            run("f", None, "e", model_hidden=4),
        ]
    )
    assert h.rival(h.trials[3])["run"] == "a"
    assert h.rival(h.trials[4]) is None


# ---- searches


def searched(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Trials whose PER falls by 0.05 with EMA and by nothing with noise, and varies by 0.004 otherwise."""
    draw = random.Random(seed)
    runs = []
    for _ in range(count):
        ema, rate, noise = draw.random() < 0.5, draw.uniform(1e-3, 4e-3), draw.uniform(0, 1)
        per = 0.3 - 0.05 * ema + 20 * abs(rate - 0.002) + draw.gauss(0, 0.004)
        config = settings(
            schedule_peak_lr=rate,
            augmentation_white_noise=noise,
            **({} if ema else {"averaging_kind": "none", "averaging_decay": None}),
        )
        stop = draw.random() < 0.3
        curve = [0.9, per + 0.2, *([] if stop else [per])]
        runs.append({"pers": curve, "config": config, "status": "stopped" if stop else "completed"})
    return runs


def test_what_a_search_shows_of_each_setting(history):
    """A real effect is found with its size inside the interval; a setting that does nothing is a tie."""
    found = {effect.contrast.split(" ")[0]: effect for effect in effects(history(searched(60)))[0]}
    ema = found["averaging.kind"]
    sign = -1 if "ema instead of none" in ema.contrast else 1
    assert ema.verdict == ("better" if sign < 0 else "worse")
    assert abs(ema.difference - 0.05 * sign) < ema.half
    assert found["augmentation.white_noise"].verdict == "tie"


def test_settings_that_do_nothing_are_rarely_anything_but_ties(history):
    """Of 30 studies in which nothing has an effect, at most four show one (95% of such studies should show none)."""
    wrong = 0
    for seed in range(30):
        draw = random.Random(seed)
        runs = []
        for _ in range(30):
            config = settings(
                schedule_peak_lr=draw.random(),
                augmentation_white_noise=draw.random(),
                model_hidden=draw.choice([64, 128]),
                optimizer_kind=draw.choice(["adam", "adamw"]),
            )
            runs.append({"pers": [0.3 + draw.gauss(0, 0.01)], "config": config})
        found, _ = effects(history(runs))
        assert len(found) == 4
        wrong += any(effect.verdict != "tie" for effect in found)
    assert wrong <= 4


def test_trials_that_are_not_alike_are_no_pairs(history):
    """With seven other settings drawn at random few are alike: nothing is claimed, and the setting is named."""
    draw = random.Random(0)
    names = ("schedule_peak_lr", "schedule_end_lr", "schedule_warmup_batches", "model_hidden", "training_clip")
    runs = []
    for _ in range(24):
        ema = draw.random() < 0.5
        config = settings(averaging_kind="ema" if ema else "swa", optimizer_kind=draw.choice(["adam", "sgd"]))
        for name in (*names, "augmentation_input_dropout"):
            section, key = name.split("_", 1)
            config[section][key] = draw.random()
        runs.append({"pers": [0.3 - 0.1 * ema], "config": config})
    found, unlike = effects(history(runs))
    assert not [effect for effect in found if effect.contrast.startswith("averaging.kind")]
    assert "averaging.kind" in unlike


def test_a_short_schedule_is_compared_at_an_equal_share(history):
    """At an equal epoch the short schedule would look better by 0.2; at an equal share of both nothing differs."""
    runs = []
    for number in range(24):
        short = number % 2
        epochs = 5 if short else 10
        curve = [0.9 - 0.4 * (epoch / epochs) for epoch in range(1, epochs + 1)]
        config = settings(training_batches=100 * epochs, model_hidden=100 + number // 2)
        runs.append(
            {"pers": curve if short else curve[:5], "config": config, "status": "completed" if short else "stopped"}
        )
    h = history(runs)
    for row in h.trials:
        for epoch in h.curves[row["trial"]]:
            epoch["schedule_fraction"] = epoch["batch"] / row["training_batches"]
    (found,) = [effect for effect in effects(h)[0] if effect.contrast.startswith("training.batches")]
    assert abs(found.difference) < 0.05


def test_settings_that_change_together_are_one_contrast(history):
    """A batch size that always comes with its accumulation is not counted as two effects."""
    runs = []
    for number in range(24):
        both = {"training_accumulation": 1, "training_clip": 5.0} if number % 2 else {}
        config = settings(model_hidden=100 + number, **both)
        runs.append({"pers": [0.3 - 0.01 * (number % 2) + 0.001 * (number % 5)], "config": config})
    contrasts = [e.contrast for e in effects(history(runs))[0] if "accumulation" in e.contrast or "clip" in e.contrast]
    assert len(contrasts) == 1
    assert "and with it" in contrasts[0]


def test_a_search_page(study):
    """A search is told in tables: start points, random trials, proposals; each against the best before it."""
    runs = [{"pers": [0.9, 0.3], "origin": "start_point"}, *searched(30)]
    text = changelog(study(runs), "s").text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[:3] == ["Start points", "First trials, drawn at random", "Proposed by the searcher (tpe)"]
    assert "| trial | PER | epochs | from | what changed | against it |" in text.replace("---:", "---")
    assert "stopped early, before their schedules ended" in text
    assert "contrasts together" in text


def test_empty_and_unfinished_studies_have_a_page(study):
    """A study without trials, and one whose only trial has not reported, give a page and no error."""
    assert "No trial has completed" in changelog(study([]), "s").text
    assert "No trial has completed" in changelog(study([{"pers": [], "status": "failed"}]), "s").text


# ---- the page itself


HOSTILE = "a|b\n# <script>alert(1)</script> [x](javascript:y) `c` *d* \x1b[31m"


def test_hostile_names_do_nothing(study):
    """Markup, table bars, newlines and escape codes in names, purposes, notes and errors are shown, not obeyed."""
    runs = [
        run(HOSTILE, 0.3, None, HOSTILE, phase=HOSTILE, note=HOSTILE, optimizer_kind=HOSTILE),
        run("b", 0.2, HOSTILE, HOSTILE, status="failed", error=HOSTILE),
        {"pers": [0.5], "config": settings(optimizer_kind=HOSTILE)},
    ]
    text = changelog(study(runs, origin_note=HOSTILE), "s").text
    assert "<script>" not in text
    assert "\x1b" not in text
    assert not re.search(r"^# (?!Changelog)", text, re.MULTILINE)
    assert "](javascript" not in text.replace("\\](", "")
    assert all(line.count("|") - line.count("\\|") in (0, 5, 6, 7) for line in text.splitlines())


def test_markdown_of_a_text_is_one_line():
    """Whatever the text, its Markdown has no line break, and underscores inside a word stay readable."""
    assert "\n" not in md("a\n\n# b\r\u2028c")
    assert md("run16_greedy_ema") == "run16_greedy_ema"


def test_writing_the_page(tmp_path):
    """The file is there whole; a place that cannot be written is one line, and leaves nothing."""
    write_page(tmp_path / "page.md", "text ü\n")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "text ü\n"
    with pytest.raises(InputError, match="cannot be written"):
        write_page(tmp_path / "nowhere" / "page.md", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


def test_an_unknown_study_is_one_line(recorded):
    """A misspelt study is refused with the nearest name."""
    with pytest.raises(InputError, match="did you mean recorded") as caught:
        changelog(recorded, "recrded")
    assert len(caught.value.problems) == 1


def test_the_page_needs_no_torch_or_ray(recorded):
    """Writing it imports neither torch, ray, optuna nor pandas."""
    code = (
        "import sys; from results.changelog.page import changelog; "
        f"changelog({str(recorded)!r}, 'recorded'); "
        "print([m for m in ('torch', 'ray', 'optuna', 'trainable', 'tuner') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command(recorded, tmp_path, capsys):
    """`tuner changelog` prints the page, or writes it to --out and says so; a wrong study has status 2."""

    def tuner(*arguments: Any) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["changelog", *map(str, arguments), "--results", str(recorded)])
        return left.value.code, *capsys.readouterr()

    page = tmp_path / "page.md"
    assert tuner("recorded", "--out", page)[1].startswith(f"wrote {page}: 23 trials, ")
    assert tuner("recorded")[1] == page.read_text(encoding="utf-8")
    status, _, error = tuner("nothing")
    assert (status, error.count("\n")) == (2, 1)
