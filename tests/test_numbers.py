"""Every number is right: pinned to values that were computed some other way.

The constants come from independent tools (R, statsmodels 0.14, scikit-learn, by hand), not from the
package. What needs thousands of simulated experiments is a slow cell of the pages; a short form of
each is here, with wider limits.
"""
import importlib
import inspect
import json
import math
import os
import re
import signal
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock, Mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom, binomtest, ttest_1samp
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, matthews_corrcoef
from torch.nn.functional import cross_entropy

from cola_nbdev.basics import ColaError
from cola_nbdev.calibration import (
    best_threshold,
    calibrate,
    calibration_error,
    conformal_limit,
    decide,
    fit_platt,
    fit_temperature,
    miscalibration,
    reliability,
)
from cola_nbdev.comparison import (
    Variances,
    check_same,
    compare,
    load_predictions,
    majority,
    mcc_of_seeds,
    mcnemar,
    measure_variances,
    p_of_draws,
    paired_draws,
    plan,
    seed_variance,
)
from cola_nbdev.data import Corpus, load_corpus, occurs_in
from cola_nbdev.evaluation import (
    Report,
    batch_mcc,
    bootstrap_mcc,
    draw_mcc,
    error_map,
    holm,
    interval_of,
    length_of,
    mcc,
    mcc_beyond,
    mcc_by,
    mcc_of_counts,
    mcc_of_groups,
    read_predictions,
    shrink,
    split_masks,
    split_metrics,
    worst_mistakes,
    write_predictions,
)
from cola_nbdev.experiments import Seeds, cartography
from cola_nbdev.model import load_model, prepare_model
from cola_nbdev.packing import Packed, accumulate, in_chunks, pack_batch, unpack_batch
from cola_nbdev.pairs import wilson
from cola_nbdev.search import expected_best
from cola_nbdev.settings import Config, command_options
from cola_nbdev.tokenization import encode, load_tokenizer
from cola_nbdev.training import (
    TrainingData,
    TrainState,
    learn,
    make_optimizer,
    match_label_prior,
    rate_factor,
    restore_state,
    save_state,
)

near = pytest.approx

def sentences_of(tn, fp, fn, tp):
    "Labels and verdicts with these counts"
    return [0] * (tn + fp) + [1] * (fn + tp), [0] * tn + [1] * fp + [0] * fn + [1] * tp

SMALL = sentences_of(30, 10, 8, 52)

# One number and its interval

@pytest.mark.parametrize("counts, score", [
    ((107, 217, 70, 649), .287105), ((30, 10, 8, 52), .622398), ((64, 98, 32, 333), .367469),
    ((5, 0, 5, 0), 0)])
def test_mcc(counts, score):
    assert mcc_of_counts(counts) == near(score, abs=1e-6)
    labels, predicted = sentences_of(*counts)
    if len(set(labels)) > 1: assert mcc(labels, predicted) == near(score, abs=1e-6)

def test_mcc_of_counts_has_the_right_signs():
    # every cell is different, and so is the score of every exchange of two
    for counts in ((5, 3, 2, 7), (3, 5, 2, 7), (5, 3, 7, 2), (7, 2, 5, 3), (1, 9, 8, 2)):
        labels, predicted = sentences_of(*counts)
        assert mcc_of_counts(counts) == near(matthews_corrcoef(labels, predicted))

def test_draws_have_the_spread_of_the_bootstrap():
    # the classic bootstrap on a hundred sentences; ours is a little to the left of it
    draws = draw_mcc(*SMALL, draws=40_000)
    assert draws.std() == near(.080556, abs=.003)
    assert bootstrap_mcc(*SMALL)[1:] == near((.458063, .773640), abs=.02)
    assert bootstrap_mcc(*SMALL, level=.9)[1:] == near((.485292, .750866), abs=.02)
    many = sentences_of(3000, 1000, 800, 5200)  # a tenth as wide, and hardly to the left
    assert bootstrap_mcc(*many)[1:] == near((.6063, .6378), abs=.002)

def test_draws_are_those_of_a_dirichlet():
    cells = np.random.default_rng(3).dirichlet([30 + 1/3, 10 + 1/3, 8 + 1/3, 52 + 1/3], 40_000)
    expected = np.quantile(mcc_of_counts(cells), [.025, .25, .5, .75, .975])
    found = np.quantile(draw_mcc(*SMALL, draws=40_000), [.025, .25, .5, .75, .975])
    assert found == near(expected, abs=.004)
    together = draw_mcc(SMALL[0], [SMALL[1], SMALL[0]], draws=40_000)
    assert np.quantile(together[:, 0], [.025, .5, .975]) == near(expected[[0, 2, 4]], abs=.004)
    assert together[:, 1].min() > .7  # a perfect run, and still not certain
    assert together[:, 1].std() > .01

def test_the_prior_is_a_third():
    cells = np.random.default_rng(5).dirichlet([2 + 1/3, 1/3, 1/3, 2 + 1/3], 40_000)
    found = np.quantile(draw_mcc(*sentences_of(2, 0, 0, 2), draws=40_000), [.025, .1, .5])
    assert found == near(np.quantile(mcc_of_counts(cells), [.025, .1, .5]), abs=.015)

def test_draws_of_any_number():
    for draws in (1, 999, 1000, 2500): assert len(draw_mcc(*SMALL, draws=draws)) == draws
    assert draw_mcc(*SMALL, 50).tolist() == draw_mcc(*SMALL, 50, seed=0).tolist()
    assert draw_mcc(*SMALL, 50).tolist() != draw_mcc(*SMALL, 50, seed=1).tolist()

def test_no_draw_is_of_one_class():
    # of the classic bootstrap's draws .112157 would be, for 2 acceptable of 12
    assert near(.112157, abs=1e-6) == (10/12)**12 + (2/12)**12
    draws = draw_mcc([1] * 2 + [0] * 10, [1] * 3 + [0] * 9, 20_000)
    assert np.isfinite(draws).all() and (draws == 0).mean() < .001

@pytest.mark.parametrize("labels, predicted, says", [
    ([], [], "must be 0 or 1"), ([0, 1], [0, 2], "must be 0 or 1"), ([0, -1], [0, 1], "must be 0"),
    ([1, 1], [0, 1], "the 2 labels are of one class"), ([0, 1, 1], [0, 1], "3 labels and 2 pred"),
    ([0, 1], [[0, 1, 1]], "2 labels and 3 predictions")])
def test_labels_that_have_no_mcc(labels, predicted, says):
    with pytest.raises(ColaError, match=says): draw_mcc(labels, predicted)

def test_an_interval_holds_its_score():
    assert interval_of(2, [0, 1]) == (2, near(.025), 2)
    assert interval_of(-1, [0, 1], level=.9) == (-1, -1, near(.95))
    assert bootstrap_mcc([0, 1, 1, 0], [0, 1, 1, 0])[::2] == (1, 1)

def cells_of(score, acceptable=.69):
    wrong = acceptable * (1 - acceptable) * (1 - score)
    return np.array([1 - acceptable - wrong, wrong, wrong, acceptable - wrong])

@pytest.mark.parametrize("n, score, least", [(10, .5, .84), (20, .95, .86), (50, .95, .88),
                                             (1043, .5, .89)])
def test_an_interval_holds_the_truth(n, score, least):
    rng, held, counted = np.random.default_rng(n), 0, 0
    for counts in rng.multinomial(n, cells_of(score), 200):
        labels, predicted = sentences_of(*counts)
        if len(set(labels)) < 2: continue
        _, low, high = bootstrap_mcc(labels, predicted, 400)
        counted += 1
        held += low <= score <= high
    assert held / counted >= least
    assert n < 1043 or held / counted <= .98

def frame_of(rng, n=600, right=.8, groups=20):
    labels = (rng.random(n) < .69).astype(int)
    return pd.DataFrame({"split": np.where(np.arange(n) < n / 3, "one", "other"), "label": labels,
                         "sentence": [f"Sentence {number}." for number in range(n)],
                         "predicted": np.where(rng.random(n) < right, labels, 1 - labels),
                         "group": rng.integers(0, groups, n)})

def test_the_parts_of_predictions():
    frame = frame_of(np.random.default_rng(0)).assign(in_train=False)
    assert list(split_masks(frame, "whole")) == ["one", "other", "whole"]
    frame.loc[:6, "in_train"] = True
    masks = split_masks(frame, "whole")
    assert list(masks) == ["one", "other", "whole", "whole, unseen"]
    assert [mask.sum() for mask in masks.values()] == [200, 400, 600, 593]
    table = split_metrics(frame, "whole")
    kept = frame[~frame.in_train]
    assert table.mcc["whole, unseen"] == near(matthews_corrcoef(kept.label, kept.predicted))
    alone = split_masks(frame[frame.split == "one"], "whole")
    assert list(alone) == ["one", "one, unseen"]
    assert occurs_in(["He left. ", "She left."], ["he left."]) == [True, False]

# Groups

def test_holm():
    p = [.01, .04, .03, .005]  # statsmodels: multipletests(p, method="holm")
    assert holm(p).tolist() == [True, False, False, True]
    assert holm([.04, .04]).tolist() == [False, False] and holm([.05]).tolist() == [True]
    assert holm([.001, .04, .02], level=.1).tolist() == [True, True, True]

def test_shrinking():
    # metafor 4: rma(yi, vi, method="DL") gives tau2 .0456, mean .4386 for these
    y, v = np.array([.2, .3, .8, .5]), np.array([.01, .02, .03, .04])
    w = 1 / v
    q = (w * (y - (w * y).sum() / w.sum()) ** 2).sum()
    tau2 = (q - 3) / (w.sum() - (w ** 2).sum() / w.sum())
    w = 1 / (v + tau2)
    mean = (w * y).sum() / w.sum()
    shrunk, error = shrink(y, v)
    assert shrunk == near(mean + (y - mean) * tau2 / (tau2 + v))
    assert error == near(np.sqrt(tau2 * v / (tau2 + v) + (v / (tau2 + v)) ** 2 / w.sum()))
    assert tau2 > 0
    same, certain = shrink([.5, .5, .5], [.01, .02, .04])
    assert same == near([.5] * 3) and certain == near([1 / math.sqrt(175)] * 3)

def test_groups_that_are_equal_are_not_told_apart():
    rng, missed, told, raw = np.random.default_rng(5), 0, 0, 0
    truth = mcc_of_counts([.31 * .8, .31 * .2, .69 * .2, .69 * .8])
    for _ in range(6):
        table = mcc_of_groups(frame_of(rng), "group").dropna()
        missed += ((table.shrunk_low > truth) | (table.shrunk_high < truth)).sum()
        raw += ((table.mcc_low > truth) | (table.mcc_high < truth)).sum()
        told += table.differs.any()
    assert missed / 6 < 2 and raw / 6 < 2.5, "of 20 intervals one may miss"
    assert told <= 1

def test_a_group_that_differs_is_found():
    frame = frame_of(np.random.default_rng(6), 2000)
    frame.loc[frame.group == 3, "predicted"] = 1 - frame.label
    assert mcc(*frame.loc[frame.group == 3, ["label", "predicted"]].T.to_numpy()) == -1
    table = mcc_of_groups(frame, "group")
    assert table.differs[3] and table.differs.sum() <= 2 and table.shrunk[3] < 0
    assert table.shrunk[3] > table.mcc[3], "it is drawn toward the others"
    perfect = mcc_of_groups(frame.assign(predicted=frame.label), "group")
    assert perfect.shrunk_high.max() == 1 and perfect.shrunk_low.min() <= 1
    assert mcc_of_groups(frame, "group").shrunk_low.min() == -1 or table.shrunk_low.min() > -1
    few = mcc_of_groups(frame[frame.group < 2], "group")
    assert few.shrunk.isna().all() and not few.differs.any()

def test_other_groups():
    # as many sentences in each group: the mean of the groups' scores, and a t-interval around it
    rng = np.random.default_rng(7)
    parts = []
    for group, right in enumerate(rng.uniform(.6, .95, 12)):
        labels = np.tile([0, 1], 2000)
        parts.append(pd.DataFrame({"label": labels, "group": group, "predicted": np.where(
            rng.random(4000) < right, labels, 1 - labels)}))
    found = mcc_beyond(pd.concat(parts), "group", draws=40_000)
    scores = [mcc(part.label, part.predicted) for part in parts]
    low, high = ttest_1samp(scores, 0).confidence_interval(.95)
    assert found == near((np.mean(scores), low, high), abs=.02)
    with pytest.raises(ColaError, match="group has one value"): mcc_beyond(parts[0], "group")
    opposite = pd.concat([parts[0], parts[1].assign(predicted=1 - parts[1].predicted)])
    assert mcc_beyond(opposite, "group")[1:] == (-1, 1), "two groups say next to nothing"

def test_a_row_of_a_table():
    frame = pd.DataFrame(dict(zip(("label", "predicted"), SMALL))).assign(
        group="all", odd=["x"] * 30 + ["y"] * 70)
    row = mcc_by(frame, "group").loc["all"]
    assert row.tolist() == near([100, *bootstrap_mcc(*SMALL), .82, .6, .62])
    alone = mcc_by(frame.assign(label=1), "group").loc["all"]
    assert alone[["mcc", "mcc_low", "mcc_high"]].isna().all() and alone.accuracy == near(.62)
    with pytest.raises(ColaError, match="no column 'none'"): mcc_by(frame, "none")

def test_groups_are_drawn_to_their_mean(monkeypatch):
    tested = Mock(wraps=holm)
    monkeypatch.setattr("cola_nbdev.evaluation.holm", tested)
    frame = frame_of(np.random.default_rng(8), 900, groups=4)
    frame.loc[frame.group == 3, "label"] = 1  # of one class
    table = mcc_of_groups(frame, "group").sort_index()
    noise = len(frame) * draw_mcc(frame.label, frame.predicted).var()
    parts, rest = ([frame[same(frame.group, value)] for value in range(3)]
                   for same in (pd.Series.eq, pd.Series.ne))
    n = np.array([len(part) for part in parts])
    scores, others = (np.array([matthews_corrcoef(part.label, part.predicted) for part in each])
                      for each in (parts, rest))
    shrunk, error = shrink(scores, noise / n)
    assert table.shrunk[:3].tolist() == near(shrunk)
    assert table.shrunk_low[:3].tolist() == near(shrunk - 1.959964 * error)
    assert table.shrunk_high[:3].tolist() == near(shrunk + 1.959964 * error)
    z = (scores - others) / np.sqrt(noise / n + noise / (900 - n))
    p = [math.erfc(abs(each) / math.sqrt(2)) for each in z]
    assert sorted(tested.call_args.args[0]) == near(sorted(p))
    assert table.differs[:3].tolist() == holm(p).tolist()
    assert np.isnan(table.shrunk[3]) and not table.differs[3]

def test_where_the_errors_live():
    counts = [5, 6, 8, 9, 11, 12, 15, 16, 40]
    names = ["1 to 5 words", "6 to 8", "9 to 11", "12 to 15", "16 and more"]
    lengths = length_of(pd.Series([" ".join("a" * count) for count in counts]))
    assert lengths.tolist() == [names[each] for each in (0, 1, 1, 2, 2, 3, 3, 4, 4)]
    frame = frame_of(np.random.default_rng(0), 64)
    frame = frame.assign(
        sentence=[" ".join("a" * (1 + number % 8)) for number in range(64)], sentence_source="x",
        phenomenon=["b"] * 4 + ["a"] * 5 + ["c"] * 55, label_notes=["*"] * 20 + [""] * 44)
    frame.loc[4:8, "predicted"] = 1 - frame.label
    table = error_map(frame)
    assert set(table.index[:2]) == {("phenomenon", "a"), ("phenomenon", "c")}
    assert table.n["length"].to_dict() == {names[0]: 40, names[1]: 24}
    assert set(table.loc["label_notes"].index) == {"*", "no mark"}
    assert "sentence_source" not in table.index.get_level_values(0)
    assert ("phenomenon", "b") in error_map(frame, 4).index
    worst = table.loc["phenomenon"]
    assert worst.mcc.is_monotonic_increasing
    same = frame[["split", "label", "predicted"]].assign(sentence="a")
    assert error_map(same).empty

def test_the_worst_mistakes():
    frame = pd.DataFrame({"sentence": list("abcdef"), "label": [1, 1, 0, 0, 1, 0],
                          "predicted": [0, 1, 1, 1, 0, 1], "logit": [-1., 9, 3, 1, -4, 1],
                          "more": 0})
    assert worst_mistakes(frame).sentence.tolist() == ["e", "c", "a", "d", "f"]
    tied = pd.DataFrame({"sentence": range(99), "label": 1, "predicted": 0,
                         "logit": -1. - np.arange(99) % 3})
    assert worst_mistakes(tied, 99).sentence.tolist() == [
        *range(2, 99, 3), *range(1, 99, 3), *range(0, 99, 3)], "in their order, where equal"
    assert worst_mistakes(frame, 2).to_dict("list") == {"sentence": ["e", "c"], "label": [1, 0]}

def test_the_mcc_of_batches():
    frame = pd.DataFrame({"label": [0, 1, 1, 0, 1, 1, 0], "predicted": [0, 1, 0, 1, 1, 1, 0]})
    assert batch_mcc(frame, 2) == near([1, -1, math.nan, math.nan], nan_ok=True)
    assert len(batch_mcc(pd.concat([frame] * 5))) == 2

def test_what_a_report_says():
    frame = frame_of(np.random.default_rng(0), groups=5).assign(logit=0., sentence_source="x")
    frame["probability"] = np.where(frame.predicted == 1, .9, .1)
    frame.loc[:99, "probability"] = .5
    report = Report(frame, {"lost": ["something"], "abstain": {"limit": .2, "risk": .07}})
    assert report.names == ("unacceptable", "acceptable") and report.warning == "something"
    answered = frame[100:]
    wrong = (answered.label != answered.predicted).sum() / 600
    score = matthews_corrcoef(answered.label, answered.predicted)
    assert re.findall(r"[\d.]+%?", report.abstaining) == [
        "7%", "83%", f"{score:.3f}", f"{wrong:.1%}"]
    alone = Report(frame.assign(probability=np.where(frame.label == 1, frame.probability, .5)),
                   report.facts)
    assert "MCC of these –" in alone.abstaining
    assert Report(frame).abstaining == "" == Report(frame.assign(label=1), report.facts).abstaining
    assert report.beyond == "" == Report(frame.assign(phenomenon=frame.group, label=1)).beyond
    for column in ("phenomenon", "sentence_source"):
        grouped = frame.drop(columns="sentence_source").assign(**{column: frame.group})
        found = mcc_beyond(grouped, column)
        assert f"for another {column}: " in Report(grouped).beyond
        assert "MCC {:.3f}, 95% interval {:.3f} to {:.3f}".format(*found) in Report(grouped).beyond
        assert Report(grouped[grouped.group < 4]).beyond == ""
        assert Report(grouped.assign(predicted=1)).beyond == ""  # 0 by definition, no certainty
    alike = Report(frame.assign(predicted=frame.predicted.where(frame.split == "one", 1)),
                   {"names": ["bad", "good"]})
    assert alike.degenerate == ["other"] and alike.names == ("bad", "good")
    assert alike.warning.startswith("degenerate: all sentences of other were")
    found = Report(frame.assign(label=frame.label.where(frame.split == "one", 1))).to_dict()
    assert found["splits"]["other"]["mcc"] is None and found["splits"]["one"]["degenerate"] is False

def test_predictions_are_read_again(tmp_path):
    frame = frame_of(np.random.default_rng(0), 9).assign(logit=.5, probability=.7, note=None)
    frame.loc[3, "sentence"] = 'a "b",\nNA'
    write_predictions(frame, tmp_path/"p.csv")
    found = read_predictions(tmp_path/"p.csv")
    assert found.drop(columns="note").equals(frame.drop(columns="note").astype(found.dtypes.drop(
        "note"))) and set(found.note) == {""}
    for column, wrong in (("label", 2), ("predicted", "x"), ("logit", math.inf),
                          ("probability", "")):
        odd = frame.astype({column: object})
        odd.loc[[4, 6], column] = wrong
        write_predictions(odd, tmp_path/"odd.csv")
        with pytest.raises(ColaError, match=f"the {column} in row 4 is "):
            read_predictions(tmp_path/"odd.csv")
    for odd, says in ((frame[:0], "holds no predictions"), (frame[["split"]], "no column label")):
        write_predictions(odd, tmp_path/"odd.csv")
        with pytest.raises(ColaError, match=says): read_predictions(tmp_path/"odd.csv")

# Several seeds, and two recipes

def test_the_variance_between_seeds():
    scores = [.30, .34, .29]
    assert np.std(scores, ddof=1) == near(.026458, abs=1e-6)
    rng = np.random.default_rng(0)
    drawn = rng.normal(0, .1, (50_000, 1)) + rng.normal(0, .01, (50_000, 3))
    between, within = seed_variance(scores, drawn)
    assert within == near(.01 ** 2, rel=.03)
    assert between == near(.026458 ** 2 - .01 ** 2, rel=.01)
    assert seed_variance([.3, .3001], drawn[:, :2])[0] == 0

NDTRI = torch.special.ndtri

def latent(rng, n=1043, seeds=5, sd=.02, arm=.02, gain=0., shared=.8):
    "Labels and the verdicts of two recipes: judges of a known MCC, .5"
    labels = (rng.random(n) < .69).astype(int)
    common, verdicts = rng.normal(size=n), []
    for number in range(2):
        heard = (math.sqrt(shared - arm) * common + math.sqrt(arm) * rng.normal(size=n)
                 + math.sqrt(1 - shared) * rng.normal(size=(seeds, n)))
        quality = torch.from_numpy(rng.normal(.5 + number * gain, sd, (seeds, 1)).clip(.01, .99))
        wrong = .69 * .31 * (1 - quality)
        high, low = NDTRI(1 - wrong / .31).numpy(), -NDTRI(1 - wrong / .69).numpy()
        verdicts.append((heard > np.where(labels == 1, low, high)).astype(int))
    return labels, verdicts

@pytest.mark.parametrize("seeds, sd", [(3, .03), (5, 0), (5, .05)])
def test_the_mean_of_seeds_is_where_the_interval_says(seeds, sd):
    rng, held = np.random.default_rng(seeds), 0
    for _ in range(100):
        labels, (runs, _) = latent(rng, seeds=seeds, sd=sd)
        _, low, high = mcc_of_seeds(labels, runs, 400)
        held += low <= .5 <= high
    assert held / 100 >= .88

@pytest.mark.parametrize("seeds, sd, gain, limits", [
    (3, .03, 0, (0, .12)), (5, .02, 0, (0, .12)), (5, .05, 0, (0, .12)), (10, .02, .04, (.55, 1))])
def test_p_is_small_as_often_as_it_says(seeds, sd, gain, limits):
    rng, below = np.random.default_rng(7), 0
    for _ in range(100):
        labels, (one, two) = latent(rng, seeds=seeds, sd=sd, gain=gain)
        below += p_of_draws(paired_draws(labels, one, two, 400)) < .05
    assert limits[0] <= below / 100 <= limits[1]

def test_seeds_widen_an_interval():
    rng = np.random.default_rng(1)
    labels, (one, two) = latent(rng, sd=.06)
    apart = paired_draws(labels, one, two)
    fixed = draw_mcc(labels, np.vstack([one, two]))
    fixed = fixed[:, 5:].mean(1) - fixed[:, :5].mean(1)
    spread = [seed_variance([mcc(labels, run) for run in runs], draw_mcc(labels, runs))[0] / 5
              for runs in (one, two)]
    total = fixed.var() + sum(spread)
    observed = [np.var([mcc(labels, run) for run in runs], ddof=1) / 5 for runs in (one, two)]
    freedom = total ** 2 / sum(part * all / 4 for part, all in zip(spread, observed))
    assert apart.var() == near(total * freedom / (freedom - 2), rel=.06)
    assert apart.mean() == near(fixed.mean(), abs=.001)
    assert paired_draws(labels, one[:1], two).std() < apart.std(), "one run has no seeds to vary"

def test_paired_seeds():
    rng = np.random.default_rng(2)
    labels, (one, _) = latent(rng, sd=.06)
    other = np.where(rng.random(one.shape) < .01, 1 - one, one)  # each run's own twin
    assert paired_draws(labels, one, other, paired=True).std() \
           < paired_draws(labels, one, other).std() / 2

def test_p_values():
    labels = [1] * 39
    first, second = [1] * 12 + [0] * 27, [0] * 12 + [1] * 27
    assert mcnemar(labels, first, second) == near(.023703, abs=1e-6)
    assert mcnemar(labels, first, second, mid=True) == near(.016589, abs=1e-6)
    draws = np.concatenate([np.full(7, -1.), np.full(992, 1.)])
    assert p_of_draws(draws) == near(.016) and p_of_draws(-draws) == near(.016)
    assert p_of_draws([0, 0]) == 1 and majority([[0, 1], [1, 0], [1, 0]]).tolist() == [1, 0]
    assert majority([[0, 1], [1, 0]]).tolist() == [1, 1]

def test_what_one_run_can_say():
    frame = frame_of(np.random.default_rng(3))
    other = frame_of(np.random.default_rng(4)).assign(label=frame.label)
    alone, several = compare(frame, other), compare([frame, other], [other, frame])
    assert "p, these models" in alone.table and "trained models only" in alone.note
    assert "p" in several.table and "for these recipes" in several.note
    assert not [name for name in several.table if "McNemar" in name]
    names = [run.assign(predicted=run.label) for run in (frame, frame)]
    assert compare(names, names, paired=True).table.difference.tolist() == [0, 0, 0]

def test_runs_that_cannot_be_compared():
    frame = frame_of(np.random.default_rng(0), 9)
    odd = frame.assign(predicted=frame.predicted.astype(float))
    odd.loc[[4, 6], "predicted"] = math.nan
    check_same(frame, frame, "one", "other")
    for other, says in (
            (frame.drop(columns="label"), "^other has no column label"),
            (frame[:0], "^other holds no predictions"), (odd, "^other has no prediction .* row 4;"),
            (frame.assign(label=2), "^other has no label of 0 or 1 in row 0"),
            (frame[:8], "^one has predictions for 9 sentences and other for 8;"),
            (frame.assign(sentence=[*frame.sentence[:7], "x", "y"]), "differ in row 7: sentence"),
            (frame.assign(split=["x", *frame.split[1:]]), "differ in row 0: split 'one' and 'x'"),
            (frame.assign(label=1 - frame.label), "differ in row 0: label")):
        with pytest.raises(ColaError, match=says): check_same(frame, other, "one", "other")
    for names, says in ((("a", "a"), "two other names"), (("a", "split"), "two other names")):
        with pytest.raises(ColaError, match=says): compare(frame, frame, names)
    with pytest.raises(ColaError, match="^B holds no predictions"): compare(frame, [])
    for one, other in (([1, 2], [2, 1]), ([1, 2], [1])):
        runs = [[frame.copy() for _ in seeds] for seeds in (one, other)]
        for each, seeds in zip(runs, (one, other), strict=True):
            for run, seed in zip(each, seeds, strict=True): run.attrs["config"] = {"seed": seed}
        with pytest.raises(ColaError, match="paired runs need the same seeds"):
            compare(*runs, paired=True)

def test_runs_are_loaded(tmp_path):
    frame = frame_of(np.random.default_rng(0), 9).assign(logit=.5, probability=.7)
    def save(name, facts, rows=frame):
        (tmp_path/name).mkdir(parents=True)
        write_predictions(rows, tmp_path/name/"predictions.csv")
        (tmp_path/name/"metrics.json").write_text(json.dumps(facts))
    facts = {"splits": {"one": {}, "other": {}, "glue_dev": {}, "more": {}}, "corpus": "cola"}
    for name, seed in (("a/1", 1), ("a/2", 2), ("a/.3", 3), ("a/4.unfinished", 4)):
        save(name, facts | {"config": {"seed": seed, "keep_checkpoints": seed, "epochs": 2}})
    save("b", {})
    runs = load_predictions(tmp_path/"a")
    assert [run.attrs["config"]["seed"] for run in runs] == [1, 2]
    assert (runs[0].attrs["together"], runs[0].attrs["corpus"]) == ("glue_dev", "cola")
    for path in (tmp_path/"b", tmp_path/"b"/"predictions.csv"):
        (alone,) = load_predictions(path)
        assert alone.attrs == {"together": "all_dev", "config": {}, "corpus": "demo"}
    save("a/5", {"config": {"epochs": 3, "warmup": 0}})
    with pytest.raises(ColaError, match=r"differ in epochs, warmup\)"):
        load_predictions(tmp_path/"a")
    save("c/1", {"config": {"epochs": 2}})
    save("c/2", {"config": {"epochs": 2}}, frame[:5])
    with pytest.raises(ColaError, match="9 sentences and .* for 5"): load_predictions(tmp_path/"c")
    with pytest.raises(ColaError, match="there are no predictions"): load_predictions(tmp_path/"x")

def test_what_is_compared():
    rng = np.random.default_rng(0)
    frames = [frame_of(rng) for _ in range(3)]
    one, *others = [each.assign(label=frames[0].label) for each in frames]
    others.append(others[0].assign(predicted=others[0].predicted.where(one.split == "one", 1)))
    one.attrs = {"config": {"model": "tiny", "epochs": 3, "odd": 1}, "corpus": "cola"}
    found = compare(one, others, ("first", "second"), "whole", draws=500)
    assert found.table.index.tolist() == ["one", "other", "whole"]
    row = found.table.loc["whole"]
    scores = [matthews_corrcoef(one.label, each.predicted) for each in (one, *others)]
    assert [row["MCC first"], row["MCC second"]] == near([scores[0], np.mean(scores[1:])])
    assert row.difference == near(np.mean(scores[1:]) - scores[0])
    draws = paired_draws(one.label, [one.predicted], [each.predicted for each in others], 500)
    assert found.draws.tolist() == near(draws)
    assert [row.low, row.high] == near(np.quantile(draws, [.025, .975]))
    assert row["p, these models"] == p_of_draws(draws)
    assert row["draws above 0"] == near((draws > 0).mean())
    assert found.table["degenerate second"].tolist() == [0, 1, 0]
    votes = np.mean([each.predicted for each in others], axis=0) >= .5
    assert found.changed.sentence.tolist() == one.sentence[votes != one.predicted].tolist()
    assert row.changed == len(found.changed) and list(found.changed) == [
        "split", "sentence", "label", "first", "second"]
    assert ("train several: cola seeds --data cola --model tiny --epochs 3 --out first-seeds"
            in found.note) and "second-seeds" not in found.note
    whole = one.assign(label=one.label.where(one.split == "one", 1))
    assert compare(whole, whole).table.loc["other"].dropna().to_dict() == {"n": 400}
    same = compare(whole, whole).table.loc["one"]
    assert same["draws above 0"] == .5 and same["p, these models"] == 1

def seen(known, difference, k, n, times=20_000):
    "How often two recipes that differ by so much are told apart, one comparison after another"
    from scipy.stats import t
    rng, own = np.random.default_rng(1), known.runs / n
    scores = rng.normal(0, math.sqrt(known.seeds + own), (times, 2, k))
    lasting = rng.normal(difference, math.sqrt(known.recipes / n), times)
    found = scores[:, 1].mean(1) - scores[:, 0].mean(1) + lasting
    s2 = scores.var(axis=2, ddof=1)
    seeds = np.where(s2 > own, s2 - own, 0)
    v = seeds.sum(1) / k + 2 * own / k + known.recipes / n
    nu = v ** 2 / np.maximum((seeds * s2).sum(1) / (k ** 2 * (k - 1)), 1e-12)
    return ((2 * t.sf(np.abs(found) / np.sqrt(v), nu) < .05) & (found > 0)).mean()

@pytest.mark.parametrize("sd", [0, .02, .04])
def test_what_is_planned_is_seen(sd):
    known = Variances(sd ** 2, .5, .1)
    assert known.total(5, 1043) == near(2 * sd ** 2 / 5 + (2 * .5 / 5 + .1) / 1043)
    table = plan(.04, known)
    assert table["power on 1,043"].is_monotonic_increasing
    for k, power in zip((3, 5, 10), table["power on 1,043"].tolist(), strict=False):
        assert power == near(seen(known, .04, k, 1043), abs=.015)
    fewer, needed = table.sentences.tolist()[2:]  # of 10 and of 20 seeds
    if sd == .02: assert needed < fewer
    if sd < .04: assert seen(known, .04, 20, needed) == near(.8, abs=.015)
    assert np.isnan(plan(.01, Variances(.04, .5, .1), (3,)).sentences[3])
    with pytest.raises(ColaError): plan(.04, known, (1,))

def test_variances_are_measured():
    labels, (one, two) = latent(np.random.default_rng(8), 60_000, seeds=6, sd=.03)
    frames = [[pd.DataFrame({"split": "dev", "sentence": np.arange(60_000), "label": labels,
                             "predicted": run}) for run in runs] for runs in (one, two)]
    found = measure_variances(*frames)
    assert math.sqrt(found.seeds) == near(.03, rel=.5)
    _, (one, two) = latent(np.random.default_rng(9), 60_000, seeds=6, sd=0, arm=0)
    drawn = draw_mcc(labels, one)
    assert found.runs > 0 and found.recipes > 0 and drawn.shape == (10_000, 6)

def report_of(predictions): return Report(predictions.assign(logit=0., probability=.5))

def test_the_summary_of_seeds():
    runs = [frame_of(np.random.default_rng(seed)) for seed in (1, 2, 3)]
    runs = [run.assign(label=runs[0].label) for run in runs]
    runs += [runs[0].assign(predicted=1)]
    reports = {seed: report_of(run) for seed, run in enumerate(runs)}
    scores = [matthews_corrcoef(run.label, run.predicted) for run in runs]
    row, kept = (Seeds(reports, drop).summary().loc["all_dev"] for drop in (False, True))
    assert [row.seeds, row.degenerate, row.dropped] == [4, 1, 0]
    assert [row["mean"], row["median"], row.sd, row.best] == near(
        [np.mean(scores), np.median(scores), np.std(scores, ddof=1), max(scores)])
    assert row.low < row["mean"] < row.high
    assert row["seed sd"] == near(math.sqrt(seed_variance(scores, draw_mcc(
        runs[0].label, [run.predicted for run in runs]))[0]))
    assert [kept.seeds, kept.degenerate, kept.dropped] == [4, 1, 1]
    assert kept["mean"] == near(np.mean(scores[:3]))

def test_where_a_sentence_lies():
    table = cartography(pd.DataFrame({"sentence": ["a"], "label": [1]}), [[.9], [.6], [.2]])
    found = table.iloc[0][["confidence", "variability", "correctness"]].astype(float)
    assert found.tolist() == near([.566667, .286744, .666667], abs=1e-6)
    for dynamics, says in (([[.9, .1]] * 2, "of shape .2, 2."), ([.9, .1], "of shape .2,."),
                           ([[.9]], "for at least 2")):
        with pytest.raises(ColaError, match=says): cartography(table, dynamics)

def test_the_best_of_many():
    scores = [.3, .1, .2, .25]
    trials = np.random.default_rng(0).choice(scores, (100_000, 4))
    assert expected_best(scores) == near([trials[:, :n].max(1).mean() for n in (1, 2, 3, 4)],
                                         abs=.002)
    assert expected_best([.5])[0] == .5

# Calibration

Y = np.array([1, 1, 1, 0, 0, 1, 0, 0])
LOGIT = np.array([4, 3, 1, 2, -3, -1, .5, -4])

def test_temperature():
    temperature = fit_temperature(Y, LOGIT)
    assert temperature == near(1.967610, abs=1e-6)
    probability = 1 / (1 + np.exp(-LOGIT / temperature))
    assert brier_score_loss(Y, probability) < .19
    assert brier_score_loss(Y, 1 / (1 + np.exp(-LOGIT))) == near(.221898, abs=1e-6)
    assert fit_temperature(Y, LOGIT * 1000) == near(1967.610, abs=1e-3)
    assert fit_temperature(Y, LOGIT / 1000) == near(.001967610, abs=1e-9)
    for labels, logit in (([0, 1], [-1, 1]), ([0, 1, 1], [0, 0, 3])):
        with pytest.raises(ColaError, match="without a mistake"): fit_temperature(labels, logit)
    with pytest.raises(ColaError, match="no better than none"): fit_temperature(1 - Y, LOGIT)

def test_platt():
    fitted = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(LOGIT[:, None], Y)
    expected = fitted.coef_[0, 0], fitted.intercept_[0]
    assert fit_platt(Y, LOGIT) == near(expected, abs=1e-4)
    p = 1 / (1 + np.exp(-(expected[0] * LOGIT + expected[1])))
    assert [(p - Y).sum(), ((p - Y) * LOGIT).sum()] == near([0, 0], abs=1e-4)  # its two conditions
    for sign in (1, -1):
        with pytest.raises(ColaError, match="the slope"): fit_platt([0, 0, 1], [-sign, 0, sign])

def test_threshold():
    labels, logit = np.array([0, 0, 1, 0, 1, 1, 1, 1]), np.array([-3, -1, -.5, .2, 1, 2, 2.5, 4])
    threshold = best_threshold(labels, logit)
    assert threshold == near(.6)
    assert mcc(labels, logit >= threshold) == near(.774597, abs=1e-6)
    assert best_threshold([0, 1, 0], [1., 1., 0.]) == near(.5)
    assert best_threshold([1, 0], [0., 1.]) == -1, "all acceptable: better than the other way round"

def test_calibration_error():
    rng = np.random.default_rng(0)
    labels = (np.arange(1000) < 689).astype(int)
    for order in (labels, labels[::-1], rng.permutation(labels)):
        assert calibration_error(order, np.full(1000, .689)) == near(0, abs=1e-12)
    p = rng.random(500)
    labels = (rng.random(500) < p ** 2).astype(int)
    share, mean = calibration_curve(labels, p, n_bins=10, strategy="quantile")
    table = reliability(labels, p)
    assert table.probability.tolist() == near(mean) and table.acceptable.tolist() == near(share)
    assert table.n.sum() == 500
    assert calibration_error(labels, p) == near((table.n * np.abs(mean - share)).sum() / 500)
    assert calibration_error([0, 1, 1, 1], [.2, .4, .7, .9], 2) == near(.2)
    tied = reliability([0, 1, 1, 0], [.3, .3, .3, .8], 2)
    assert reliability([0, 1], [0., 1.], 2).n.tolist() == [1, 1]
    assert tied.n.tolist() == [3, 1] or tied.n.tolist() == [1, 3]

def test_what_chance_does_to_a_calibration_error():
    rng, found = np.random.default_rng(1), []
    for _ in range(60):
        p = 1 / (1 + np.exp(-rng.normal(1, 2, 500)))
        labels = (rng.random(500) < p).astype(int)
        found.append(miscalibration(labels, p, draws=400))
    table = pd.DataFrame(found)
    assert table.error.mean() == near(table.floor.mean(), rel=.1)
    assert (table.low == 0).mean() >= .88 and (table.debiased < table.error).mean() > .5
    p = np.full(4000, .7)
    labels = (np.arange(4000) < .6 * 4000).astype(int)
    off = miscalibration(labels, p)
    assert [off.error, off.debiased] == near([.1, math.sqrt(.01 - .24 / 3999)])
    ends = binom.ppf([.025, .975], 4000, .6) / 4000  # of the share; the interval is turned around
    off = miscalibration(labels, p, draws=40_000)
    assert [off.low, off.high] == near(np.sqrt(.02 - (.7 - ends) ** 2), abs=2e-4)
    assert off.floor == near(math.sqrt(.21 / 4000 * 2 / math.pi), rel=.05)  # of a half normal

def test_before_and_after():
    frame = pd.DataFrame({"label": Y, "logit": LOGIT.astype(float),
                          "sentence": [f"S {number}" for number in range(8)]})
    other = frame.assign(sentence=frame.sentence + "!")
    found = calibrate(frame, other)
    assert found.temperature == near(1.967610, abs=1e-6)
    even = other.assign(logit=np.where(Y == 1, 0., -1))  # a logit of 0 is judged acceptable
    assert calibrate(frame, even).table.MCC["before"] == 1
    assert found.table.Brier["before"] == near(.221898, abs=1e-6)
    assert found.table.Brier["after"] == near(.184754, abs=1e-6)
    shifted = calibrate(frame.assign(logit=LOGIT + 3.), other.assign(logit=LOGIT + 3.)).table
    assert shifted.Brier["Platt"] == near(found.table.Brier["Platt"]), "leniency is taken out"
    assert shifted.MCC["Platt"] == near(found.table.MCC["Platt"])
    slope, intercept = fit_platt(Y, LOGIT)
    assert found.table.Brier["Platt"] == near(
        brier_score_loss(Y, 1 / (1 + np.exp(-slope * LOGIT - intercept))))
    assert found.table.MCC["Platt"] == near(mcc(Y, slope * LOGIT + intercept >= 0))
    assert found.table.MCC["after"] == near(mcc(Y, best_threshold(Y, LOGIT) <= LOGIT))

# It may abstain

def test_a_judge_that_may_abstain_keeps_its_promise():
    assert conformal_limit([.9, .8, .7, .6], .4) == near(.3)
    assert conformal_limit([.9] * 9, .1) == near(.1) and conformal_limit([.9] * 8, .1) == np.inf
    assert decide([.9, .5, .1, .75, .25], .25).tolist() == [1, -1, 0, 1, 0]
    assert decide([.6, .4], .6).tolist() == [-1, -1]
    rng, wrong = np.random.default_rng(0), []
    for _ in range(400):
        odds = rng.normal(.8, 2, 300)
        labels = (rng.random(300) < 1 / (1 + np.exp(-odds))).astype(int)
        p = 1 / (1 + np.exp(-2 * odds + 1))
        limit = conformal_limit(np.where(labels == 1, p, 1 - p)[:100], .1)
        verdicts = decide(p[100:], limit)
        wrong.append(((verdicts >= 0) & (verdicts != labels[100:])).mean())
    assert .07 < np.mean(wrong) <= .105
    for risk in (0, 1, -.1):
        with pytest.raises(ColaError, match="abstain"): conformal_limit([.5], risk)

# Pairs

@pytest.mark.parametrize("successes, count, interval", [
    (10, 10, (.722467, 1)), (80, 100, (.711171, .866633)), (4.5, 9, (.226529, .773471))])
def test_wilson(successes, count, interval):
    assert wilson(successes, count) == near(interval, abs=1e-6)
    if successes == round(successes):
        known = binomtest(round(successes), count).proportion_ci(.9, method="wilson")
        assert wilson(successes, count, level=.9) == near((known.low, known.high))

def test_pairs_are_asked(monkeypatch):
    import cola_nbdev.pairs as module
    asked = pd.DataFrame({"phenomenon": ["z"] * 6 + ["b"] * 4, "good": list("ABCDEFGHIJ"),
                          "bad": list("abcdefghij")})
    odds = dict(zip("ABCDEFGHIJ", [1, 1, 1, 0, -1, 1, 1, 0, 0, -2]))  # those of the bad ones are 0
    def logits(model, tokenizer, sentences, **_):
        return np.array([[0, odds.get(sentence, 0)] for sentence in sentences])
    monkeypatch.setattr(module, "predict_logits", logits)
    tokenizer = load_tokenizer("tiny")
    judge: Any = SimpleNamespace(model=None, tokenizer=tokenizer, max_length=64)
    expected = [1, 1, 1, .5, 0, 1, 1, .5, .5, 0]
    for chunk in (1, 3, 100):
        assert module.prefer_good(judge, asked, chunk).tolist() == expected
    table = module.evaluate_pairs(judge, asked)
    assert table.index.tolist() == ["z", "b", "all", "other phenomena"]
    assert table.pairs.tolist() == [6, 4, 10, 10]
    assert table.accuracy.tolist() == near([.75, .5, .65, .625])
    assert (table.low["all"], table.high["all"]) == near(wilson(6.5, 10))
    low, high = ttest_1samp([.75, .5], 0).confidence_interval(.95)
    assert low < 0 and (table.low.iloc[3], table.high.iloc[3]) == (0, 1)
    alone = module.evaluate_pairs(judge, asked[:6])
    assert alone.index.tolist() == ["z", "all"]

def test_pairs_are_neighbors():
    from cola_nbdev.pairs import pairs_of
    rows = pd.DataFrame({"sentence_source": ["x", "x", "y", "y"], "label": [1, 0, 0, 1],
                         "sentence": list("abcd"), "phenomenon": ["p", "p", "q", "q"]})
    found = pairs_of(rows)
    assert found.to_dict("list") == {"field": ["x", "y"], "phenomenon": ["p", "q"],
                                     "good": ["a", "d"], "bad": ["b", "c"]}
    for wrong in (rows[:3], rows.assign(label=1), rows.assign(sentence_source=list("xyzz"))):
        with pytest.raises(ColaError): pairs_of(wrong)

def test_pairs_are_read(tmp_path):
    from cola_nbdev.pairs import load_pairs
    def write(name, text): (tmp_path/name).write_text(text)
    write("b.csv", "field,UID,sentence_good,sentence_bad\nf,u,A.,B.\n,,C.,D.\n")
    write("a.jsonl", '{"sentence_good": "E.", "sentence_bad": "F."}\n')
    write("notes.txt", "no pairs")
    assert load_pairs(tmp_path).to_dict("list") == {
        "field": ["", "f", ""], "phenomenon": ["a", "u", "b"], "good": ["E.", "A.", "C."],
        "bad": ["F.", "B.", "D."]}
    assert load_pairs(tmp_path).index.tolist() == [0, 1, 2]
    write("c.csv", "sentence_good,sentence_bad\nA.,B.\nC., \n")
    with pytest.raises(ColaError, match="c.csv .* 3: sentence_bad is no sentence"):
        load_pairs(tmp_path)
    write("c.csv", "sentence_good,sentence_bad\n")
    assert len(load_pairs(tmp_path)) == 3
    for path in (tmp_path/"c.csv", tmp_path.parent):
        with pytest.raises(ColaError, match="no pairs in"): load_pairs(path)

@pytest.mark.parametrize("losses, says", [
    ([6.] * 20, "the loss ran away: 6 nats by step 107"), ([4.9] * 20, ""),
    ([6.] * 20 + [4.9] * 20, ""), ([101.] + [0.] * 20, ""),  # of the last twenty, neither more
    ([101.] + [0.] * 19, "ran away: 5 nats by step 107"),    # nor fewer
    ([1.] * 40 + [5.1] * 20, "ran away: 5 nats by step 147"),
    ([1., math.nan], "became nan at step 89"), ([math.inf, 1.], "became inf at step 88")])
def test_the_doctor_ends_what_cannot_come_back(losses, says):
    from cola_nbdev.doctor import check_losses
    if not says: return check_losses(torch.tensor(losses), 87, Config())
    with pytest.raises(ColaError, match=says):
        check_losses(torch.tensor(losses), 87, Config(mixed_precision="bf16"))
    with pytest.raises(ColaError, match="or leave mixed_precision at no"):
        check_losses(torch.tensor(losses), 87, Config(mixed_precision="bf16"))

CHANCE = -.7 * math.log(.7) - .3 * math.log(.3)

@pytest.mark.parametrize("late, mcc_score, judged, epoch, kinds, advice", [
    (CHANCE * .995, .095, .8, 2, ["stuck"], False), (CHANCE * .985, .09, .8, 2, [], False),
    (CHANCE * .995, .11, .8, 2, [], False), (.3, .5, 1, 1, ["degenerate"], True),
    (.3, .5, 0, 2, ["degenerate"], False), (CHANCE, 0, 1, 1, ["degenerate", "stuck"], True)])
def test_the_doctor_names_a_phase(late, mcc_score, judged, epoch, kinds, advice):
    from cola_nbdev.doctor import diagnose
    row = {"epoch": epoch, "validation_mcc": mcc_score, "validation_acceptable": judged}
    losses = torch.cat([torch.full((10,), 2.), torch.full((10,), late)])
    found = diagnose(row, losses, [1] * 7 + [0] * 3, Config())
    assert [line.split(":")[0] for line in found] == kinds
    assert all("a third of it first" in line for line in found[-1:])
    assert any("A first epoch often" in line for line in found) is advice
    if advice: assert "often" not in "".join(diagnose(row, losses, [1, 0], Config(epochs=1)))
    if judged in (0, 1): assert f"judged {['unacceptable', 'acceptable'][judged]}" in found[0]

def test_the_doctor_has_nothing_to_say_of_one_class():
    from cola_nbdev.doctor import diagnose
    assert diagnose({"epoch": 2}, torch.zeros(4), [1, 1], Config()) == []  # chance is 0, too

# What decides what is learned

NUMBERS = [  # setting, values that work, values that don't
    ("epochs", [1], [0]), ("corrupted_epochs", [0], [-1]), ("batch_size", [1], [0]),
    ("learning_rate", [1e-9, 10], [0, -1, math.inf]), ("warmup", [0, 1], [-.1, 1.1]),
    ("layer_decay", [.1, 1], [0, 1.1]), ("weight_decay", [0, 5], [-.1, math.inf]),
    ("class_weight", [.1, 5], [0, -1, math.inf]), ("label_smoothing", [0, .99], [-.1, 1]),
    ("dropout", [0, .99, None], [-.1, 1]), ("reinitialized_layers", [0, 2], [-1]),
    ("adam_epsilon", [1e-12, 1], [0, math.inf]), ("gradient_clip", [.1, math.inf], [0, -1]),
    ("max_length", [3], [2]), ("validation_fraction", [0, .99], [-.1, 1]),
    ("seed", [0, 2**32 - 1], [-1, 2**32]), ("split_seed", [0, None], [-1, 2**32]),
    ("head_seed", [0, None], [-1, 2**32]), ("order_seed", [0, None], [-1, 2**32]),
    ("mixed_precision", ["no", "bf16", "fp16"], ["fp8", ""]), ("checkpoint_minutes", [0], [-1]),
    ("keep_checkpoints", [1], [0])]

@pytest.mark.parametrize("name, fine, wrong", NUMBERS, ids=[name for name, *_ in NUMBERS])
def test_every_rule_of_the_settings(name, fine, wrong):
    for value in fine: assert getattr(Config(**{name: value}), name) == value
    for value in [*wrong, *([math.nan] if name != "mixed_precision" else [])]:
        with pytest.raises(ColaError, match=f"^{name} is "): Config(**{name: value})

@pytest.mark.parametrize("settings, says", [
    ({"epochs": 2, "corrupted_epochs": 2}, "corrupted_epochs is 2"),
    ({"match_label_prior": True, "validation_fraction": 0}, "match_label_prior is True")])
def test_settings_that_do_not_go_together(settings, says):
    with pytest.raises(ColaError, match=f"^{says}; it must be"): Config(**settings)

def test_settings_have_their_values():
    from cola_nbdev.settings import PLAIN, RECIPES
    assert PLAIN == {"learning_rate": 2e-5, "warmup": 0, "layer_decay": 1, "corrupted_epochs": 0,
                     "reinitialized_layers": 0, "frozen_embeddings": False}
    assert RECIPES["minilm"] == {"learning_rate": 2e-4, "warmup": .1, "layer_decay": .85,
                      "corrupted_epochs": 1, "reinitialized_layers": 2, "frozen_embeddings": True,
                      "match_label_prior": True}
    assert [Config(model=name).learning_rate for name in ("minilm", "tiny", "bert")] \
           == [1e-4, 1e-3, 2e-5]
    found = {name: value for name, value in vars(Config()).items() if value is not None}
    assert found == {"model": "minilm", "epochs": 4, "corrupted_epochs": 0, "batch_size": 32,
                     "learning_rate": 1e-4, "warmup": 0, "layer_decay": 1, "weight_decay": .01,
                     "class_weight": 1, "label_smoothing": 0, "reinitialized_layers": 0,
                     "frozen_embeddings": False, "match_label_prior": False, "adam_epsilon": 1e-8,
                     "gradient_clip": 1, "max_length": 64, "validation_fraction": .1, "seed": 42,
                     "mixed_precision": "no", "checkpoint_minutes": 1, "keep_checkpoints": 2}

def test_the_baselines_settings():
    from cola_nbdev.experiments import _answers, _setting
    assert [_setting(what) for what in ("seed", "order")] == ["seed", "order_seed"]
    rng = np.random.default_rng(0)
    train = pd.DataFrame({"sentence": [f"{word} here" for word in ["good", "bad"] * 60],
                          "label": [1, 0] * 60})
    def vectors(sentences): return np.array([[float(each.startswith("good")), rng.random()]
                                             for each in sentences])
    found = _answers(train, train, vectors)
    scores = {name: [mcc(train.label, run) for run in runs] for name, runs in found.items()}
    assert scores["bag of words"] == scores["frozen encoder"] == [1]
    assert scores["majority class"] == [0] and len(scores["shuffled labels"]) == 10
    assert len(set(scores["shuffled labels"])) > 1, "each shuffle is another one"
    assert abs(np.mean(scores["shuffled labels"])) < 1

def test_pruning_compares_epochs_on_labels(monkeypatch):
    import cola_nbdev.search as module
    reported = []
    trial: Any = SimpleNamespace(report=lambda *each: reported.append(each), number=3,
                                 should_prune=lambda: False)
    def fit(state, config, data, processes):
        for epoch in range(1, 5):
            state.epoch = epoch
            state.history.append({"validation_mcc": epoch / 10})
            yield "epoch"
            yield "step"
    state = SimpleNamespace(history=[], epoch=0, best_epoch=2)
    monkeypatch.setattr(module, "fit", fit)
    monkeypatch.setattr(module, "TrainState", SimpleNamespace(new=lambda *_: state))
    for name in ("TrainingData", "Processes"): monkeypatch.setattr(module, name, Mock())
    config = Config(model="tiny", corrupted_epochs=2)
    score = module._train_trial(trial, None, config, SimpleNamespace(received=0))
    assert reported == [(.3, 1), (.4, 2)] and score == .2

def test_settings_of_a_command():
    settings = Config(frozen_embeddings=True, warmup=.1, seed=7, split_seed=1)
    assert command_options(settings) == "--warmup 0.1 --frozen-embeddings --split-seed 1"
    assert [settings.seed_of(what) for what in ("split", "head", "order")] == [1, 7, 7]

PROCESSES: Any = None

@pytest.fixture(scope="module")
def demo(): return load_corpus("demo").train[:60]

@pytest.fixture(scope="module")
def processes():
    from cola_nbdev.distributed import Processes
    return Processes("no")

def started(demo, processes, **settings):
    config = Config(model="tiny", epochs=2, batch_size=8, dropout=0., **settings)
    data = TrainingData(demo, config, processes)
    return config, data, TrainState.new(config, data, processes)

def test_each_seed_decides_one_thing(demo, processes):
    def parts(**seeds):
        config, data, state = started(demo, processes, **seeds)
        ids = [batch["input_ids"].tolist() for batch, _ in data.batches(0)]
        head = state.model.get_parameter("classifier.weight").tolist()
        return data.held_out.sentence.tolist(), head, ids
    plain = parts(seed=1)
    for number, name in enumerate(("split_seed", "head_seed", "order_seed")):
        other = parts(seed=1, **{name: 2})
        differs = [one != two for one, two in zip(plain, other)]
        assert differs[number] and differs[:2].count(True) == (number < 2), name
        if name == "head_seed": assert not differs[2]
    assert parts(seed=1, split_seed=1, head_seed=1, order_seed=1) == plain

@pytest.mark.parametrize("longest", [1e-5, 1e9])
def test_gradients_are_clipped(demo, processes, longest):
    config, data, state = started(demo, processes, gradient_clip=longest)
    norms = []
    def note(optimizer, *_):
        grads = [weight.grad for group in optimizer.param_groups for weight in group["params"]
                 if weight.grad is not None]
        norms.append(torch.stack([grad.norm() for grad in grads]).norm().item())
    cast(Any, state.optimizer).optimizer.register_step_pre_hook(note)
    batch, share = next(iter(data.batches(0)))
    learn(state, config, processes, batch, share)
    if longest < 1: assert norms == [near(longest, rel=5e-3)]
    else: assert norms[0] > 1e-4
    assert all(weight.grad is None or not weight.grad.any() for weight in state.model.parameters())

def test_the_loss_is_smoothed_and_weighted(demo, processes):
    _, data, state = started(demo, processes, label_smoothing=.2)
    batch, _ = next(iter(data.batches(0)))
    labels = batch["labels"]
    packed = state.packed.eval()
    unlabeled = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        logits = packed(**unlabeled)
        assert packed(**batch).item() == near(
            cross_entropy(logits, labels, label_smoothing=.2).item())
        each = cross_entropy(logits, labels, reduction="none")
        for weight in (2., .5):
            weighted = Packed(state.model, class_weight=weight).eval()(**batch)
            by_hand = (each * torch.where(labels == 0, weight, 1.)).mean()
            assert weighted.item() == near(by_hand.item())

def test_exercises_are_not_weighted(demo, processes):
    from cola_nbdev.training import fit
    config, data, state = started(demo, processes, corrupted_epochs=1, class_weight=3.)
    weights = []
    for event in fit(state, config, data, processes):
        if event == "step": weights.append((state.epoch, state.packed.class_weight))
    assert set(weights) == {(0, 1.), (1, 3.)}
    assert [row["task"] for row in state.history] == ["real or corrupted", "labels"]
    assert state.best_epoch == 2

class Forgetful(torch.nn.Module):
    "A model whose memory is full the second time it is asked"
    def __init__(self, packed):
        super().__init__()
        self.packed, self.calls = packed, 0
    def forward(self, **batch):
        self.calls += 1
        if self.calls == 2: raise RuntimeError("CUDA out of memory.")
        return self.packed(**batch)

def test_a_split_batch_has_the_same_gradient(demo, processes):
    _, data, state = started(demo, processes)
    batch, _ = next(iter(data.batches(0)))
    packed = state.packed.eval()

    def gradient(model, chunks):
        packed.zero_grad()
        loss, chunks = accumulate(model, batch, lambda each: each.backward(), chunks)
        return loss.item(), packed.model.get_parameter("classifier.weight").grad.clone(), chunks
    loss, whole, _ = gradient(packed, 1)
    split_loss, split, chunks = gradient(Forgetful(packed), 2)  # one chunk done, then no memory
    assert chunks == 4 and split_loss == near(loss, rel=1e-5)
    assert torch.allclose(split, whole, atol=1e-6)

def test_the_label_prior_is_matched(monkeypatch):
    import cola_nbdev.training as training
    odds = np.array([-2, -1, .5, 1, 3])
    asked = Mock(return_value=np.stack([-odds / 2, odds / 2], 1))
    monkeypatch.setattr(training, "distributed_logits", asked)
    model: Any = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2),
                                     torch.nn.Linear(2, 3))
    before = model[1].bias.detach().clone()
    held_out = pd.DataFrame({"sentence": list("abcde"), "label": [1, 1, 1, 0, 0]})
    shift = match_label_prior(model, cast(Any, None), held_out, 9)
    assert asked.call_args.kwargs == {"max_length": 9}
    assert np.quantile(odds, .4) == near(-.1) and shift == near(.1)  # from the cut at −.1 to 0
    moved = (model[1].bias - before).detach().tolist()
    assert moved == near([-.05, .05], abs=1e-6)

def test_a_graph_keeps_its_weight_of_a_class(demo, processes, monkeypatch):
    import cola_nbdev.training as training
    config = Config(model="tiny", epochs=4, corrupted_epochs=1, batch_size=30, class_weight=3.,
                    dropout=0.)
    data, state, captured = TrainingData(demo, config, processes), None, []
    def graphed_step(step, optimizer):
        captured.append([state.epoch])
        def run(batch):
            captured[-1].append(state.packed.class_weight)
            assert batch["mask"].shape[1] == max(map(len, data.encoded)) or not state.epoch
            return step(batch)
        return run
    monkeypatch.setattr(training, "GraphedStep", graphed_step)
    fake: Any = Mock(wraps=processes, accelerator=processes.accelerator, world_size=1, rank=0,
                     device=processes.device, uses_graphs=lambda is_bert: is_bert)
    state = TrainState.new(config, data, fake)
    for event in training.fit(state, config, data, fake):
        if event == "epoch" and state.epoch == 3: state.chunks = 2  # memory ran out: no graphs
    assert captured == [[0, 1., 1.], [1, 3., 3., 3., 3.]]

def test_the_scaler_is_saved_and_restored(demo, processes, tmp_path, monkeypatch):
    from cola_nbdev.checkpoints import latest_checkpoint, read_checkpoint
    _, _, state = started(demo, processes)
    scaler = Mock(state_dict=lambda: {"scale": 1024.})
    accelerator = SimpleNamespace(scaler=scaler)
    fake: Any = SimpleNamespace(total=processes.total, rank=0, device=processes.device,
                                accelerator=accelerator, world_size=2)
    save_state(tmp_path, state, {}, fake)
    newest = latest_checkpoint(tmp_path)
    assert newest
    tensors, facts = read_checkpoint(newest)
    assert json.loads(json.dumps(facts["scaler"])) == {"scale": 1024.}
    restore_state(state, tensors, facts, fake)
    scaler.load_state_dict.assert_called_once_with({"scale": 1024.})
    tensors["loop"]["losses"] += 1
    for rank in (0, 1):  # they are added up over the processes
        fake.rank, fake.accelerator.scaler = rank, None
        restore_state(state, tensors, facts, fake)
        assert set(state.losses.tolist()) == {.5}
    before = latest_checkpoint(tmp_path)
    save_state(tmp_path, state, {}, fake)  # the second process writes nothing
    fake.rank, state.step = 0, 1
    save_state(tmp_path, state, {}, fake, keep=1)
    newest = latest_checkpoint(tmp_path)
    assert newest and newest != before and read_checkpoint(newest)[1]["scaler"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]

def test_a_batch_is_packed():
    batch = pack_batch([([1, 2, 3], 1), ([4, 5], 0)])
    assert batch["labels"].tolist() == [1, 0] and batch["offsets"].tolist() == [0, 3]

def test_a_batch_is_packed_by_hand():
    examples = [([1, 2, 3], 1), ([4], 0), ([5, 6], 1)]
    batch = pack_batch(examples, multiple=4, longest=5)
    assert {name: values.tolist() for name, values in batch.items() if name != "mask"} == {
        "input_ids": [1, 2, 3, 4, 5, 6, 0, 0], "positions": [0, 1, 2, 0, 0, 1, 0, 0],
        "flat_index": [0, 1, 2, 5, 10, 11, 15, 15], "offsets": [0, 3, 4], "labels": [1, 0, 1]}
    assert batch["mask"].sum(1).tolist() == [3, 1, 2] and batch["mask"].shape == (3, 5)
    assert unpack_batch(batch) == examples
    assert set(pack_batch([([1, 2], None), ([3, 4], None)])) == {
        "input_ids", "positions", "flat_index", "offsets"}
    even = pack_batch([([1, 2], None), ([3, 4], None)], multiple=2)  # of one shape with the others
    assert even["mask"].all() and unpack_batch(even) == [([1, 2], None), ([3, 4], None)]

@pytest.mark.parametrize("lengths, shape", [([7, 3, 5], {}), ([4, 4], {}), ([6], {}),
                                            ([7, 3, 5], {"multiple": 16, "longest": 9})])
@pytest.mark.parametrize("way", ["packed", "padded", "by length", "with token types"])
def test_a_packed_batch_has_the_same_logits(lengths, shape, way):
    model = load_model("tiny").eval()
    rows = [list(range(10, 10 + length)) for length in lengths]
    packed = Packed(model).eval()
    assert packed.is_packed and packed.pads
    packed.is_packed, packed.pads = way == "packed", way == "padded"
    if way == "with token types":
        cast(Any, model).token_types = [0, 0], 1, [0]
        plain = Packed(model)
        assert not plain.is_packed and not plain.pads
    with torch.no_grad():
        found = packed(**pack_batch([(row, None) for row in rows], **shape))
        for row, logits in zip(rows, found, strict=True):
            inside = int(way == "with token types")
            types = [0, 0, *[inside] * (len(row) - 3), 0]
            alone = model(torch.tensor([row]), token_type_ids=torch.tensor([types])).logits[0]
            assert logits.tolist() == near(alone.tolist(), abs=1e-6)

@pytest.mark.parametrize("kind, settings, is_packed, pads", [
    ("bert", {}, True, True), ("bert", {"is_decoder": True}, False, True),
    ("roberta", {}, True, True), ("albert", {}, False, True), ("gpt2", {}, False, False)])
def test_who_is_packed(kind, settings, is_packed, pads):
    model: Any = torch.nn.Linear(1, 1)
    model.config = SimpleNamespace(**{"model_type": kind, "is_decoder": False} | settings)
    for types, plain in ((None, True), (([0], 0, []), True), (([1], 0, []), False),
                         (([], 1, []), False), (([], 0, [1]), False)):
        model.token_types = types
        found = Packed(model)
        assert bool(found.notes) is not found.is_packed
        assert (found.is_packed, found.pads) == (is_packed and plain, pads and plain)

def test_memory_runs_out():
    batch = pack_batch([([number], None) for number in range(7)])
    sizes, resets = [], []
    def work(part, room=2):
        sizes.append(len(part["offsets"]))
        if sizes[-1] > room: raise RuntimeError("CUDA out of memory.")
        return part["input_ids"].tolist()
    assert in_chunks(work, batch, 1, lambda: resets.append(1)) == ([[0, 1], [2, 3], [4, 5], [6]], 4)
    assert sizes == [7, 4, 2, 2, 2, 1] and resets == [1, 1]
    assert in_chunks(work, batch, 4)[1] == 4
    with pytest.raises(ColaError, match="a single sentence"):
        in_chunks(lambda part: work(part, 0), batch)
    with pytest.raises(RuntimeError, match="another"): in_chunks(Mock(
        side_effect=RuntimeError("another")), batch)

def test_predictions_of_splits(monkeypatch):
    import cola_nbdev.packing as module
    given = {split: pd.DataFrame({"sentence": list(text)})
             for split, text in (("one", "ab"), ("two", "c"))}
    asked = Mock(return_value=np.array([[1, 1], [2, 1], [0, 2]], dtype=np.float32))
    monkeypatch.setattr(module, "predict_logits", asked)
    found = module.predict_splits(cast(Any, "m"), cast(Any, "t"), given, max_length=9)
    assert found.split.tolist() == ["one", "one", "two"] and found.sentence.tolist() == list("abc")
    assert found.logit.tolist() == [0, -1, 2] and found.predicted.tolist() == [1, 0, 1]
    assert found.probability.tolist() == near([.5, 1 / (1 + math.e), 1 / (1 + math.exp(-2))])
    (model, tokenizer, sentences), options = asked.call_args
    assert (model, tokenizer, list(sentences)) == ("m", "t", list("abc"))
    assert options == {"max_length": 9, "progress": False}

def test_sentences_are_judged_in_their_order(monkeypatch):
    import cola_nbdev.packing as module
    returned, counts, model = Mock(), [], load_model("tiny").train()
    monkeypatch.setattr(module, "return_memory", returned)
    examples = [list(range(5, 6 + number % 9)) for number in range(1000)]
    found = module.example_logits(model, examples, 30, done=counts.append)
    assert model.training and not returned.called
    assert sum(counts) == 1000 and max(counts) == 30
    with torch.no_grad():
        for row in (0, 4, 8): assert found[row].tolist() == near(
            model.eval()(torch.tensor([examples[row]])).logits[0].tolist(), abs=1e-6)
    assert found[4] == near(found[994], abs=1e-6) and found.dtype == np.float32
    module.example_logits(model, [*examples, [5]])
    assert not model.training and returned.call_count == 1

@pytest.mark.parametrize("progress", [True, False])
def test_a_split_is_told_once_and_kept(monkeypatch, progress):
    import cola_nbdev.packing as module
    bar, asked = MagicMock(), []
    def in_chunks(judge, batch, chunks):
        asked.append(chunks)
        return [torch.zeros(len(batch["offsets"]), 2)], 4
    monkeypatch.setattr(module, "progress_bar", lambda **_: bar)
    monkeypatch.setattr(module, "in_chunks", in_chunks)
    module.example_logits(load_model("tiny"), [[1, 2]] * 5, 2, progress)
    assert asked == [1, 4, 4] and bar.update.call_count == 3 and bar.write.call_count == progress

# Training

def test_the_rate_rises_and_falls():
    def line(steps, rise): return np.interp(np.arange(steps), [0, rise, steps], [0, 1, 0])
    found = [rate_factor(step, 24, .25, 8) for step in range(25)]
    assert found == near([*line(8, 2), *line(16, 4), 0])
    assert [rate_factor(step, 4) for step in range(6)] == [1, .75, .5, .25, 0, 0]
    assert [rate_factor(step, 2, 1.) for step in range(3)] == [0, .5, 0]

def test_the_optimizers_settings():
    config = Config(model="tiny", epochs=4, corrupted_epochs=1, learning_rate=.01, layer_decay=.5,
                    warmup=.25, weight_decay=.02, adam_epsilon=1e-6)
    model = prepare_model(load_model("tiny"), frozen_embeddings=True)
    optimizer, schedule = make_optimizer(model, config, 32)
    rates = {id(weight): group["initial_lr"] for group in optimizer.param_groups
             for weight in group["params"]}
    layers = cast(Any, model.config).num_hidden_layers
    for name, weight in model.named_parameters():
        number = re.search(r"layer\.(\d+)\.", name)
        if "embeddings" in name: assert id(weight) not in rates
        else: assert rates.pop(id(weight)) == near(.01 * .5 ** (
            layers - int(number[1]) if number else 0))
    assert not rates
    assert {(group["eps"], group["weight_decay"], group["fused"])
            for group in optimizer.param_groups} == {(1e-6, .02, True)}
    assert [schedule.lr_lambdas[0](step) for step in range(33)] \
           == [rate_factor(step, 32, .25, 8) for step in range(33)]
    plain, _ = make_optimizer(model, Config(model="tiny"), 32)
    assert [group["initial_lr"] for group in plain.param_groups] == [1e-3]

def test_the_scores_of_the_held_out(monkeypatch):
    import cola_nbdev.training as training
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 2)).astype(np.float32), rng.integers(0, 2, 40)
    asked = Mock(return_value=logits)
    monkeypatch.setattr(training, "distributed_logits", asked)
    frame = pd.DataFrame({"sentence": "a", "label": labels})
    found = training.validate(cast(Any, None), cast(Any, None), frame, 7)
    odds = logits[:, 1].astype(float) - logits[:, 0]
    assert found == near({
        "validation_loss": np.logaddexp(0, np.where(labels == 1, -odds, odds)).mean(),
        "validation_accuracy": ((odds > 0) == labels).mean(),
        "validation_mcc": matthews_corrcoef(labels, odds > 0),
        "validation_acceptable": (odds > 0).mean()}, abs=1e-6)
    assert asked.call_args.kwargs == {"max_length": 7}

def test_the_data_of_a_run(demo, processes):
    config = Config(model="tiny", epochs=3, corrupted_epochs=1, batch_size=7, max_length=6)
    data = TrainingData(demo, config, processes)
    assert [len(data.train), len(data.held_out), data.steps] == [54, 6, 8]
    assert data.acceptable == data.train.sentence[data.train.label == 1].tolist()
    assert max(map(len, data.encoded)) == 6 and data.lesson(1) is data.train is data.lesson(2)
    assert data.lost and len(data.lesson(0)) == 54 and data.lesson(0) is not data.train
    def ids(epoch, *start): return [batch["input_ids"].tolist()
                                    for batch, _ in data.batches(epoch, *start)]
    for epoch in (0, 1): assert ids(epoch, 3) == ids(epoch)[3:] and len(ids(epoch)) == 8
    assert ids(1) != ids(2)
    for epoch in (0, 1):
        lesson = data.lesson(epoch)
        rows = zip(encode(lesson.sentence, data.tokenizer, 6), lesson.label, strict=True)
        dealt = [pair for batch, _ in data.batches(epoch) for pair in unpack_batch(batch)]
        assert sorted(dealt) == sorted((list(ids), label) for ids, label in rows)
    filled = [batch for batch, _ in data.batches(1, few_shapes=True)]
    assert {len(batch["input_ids"]) for batch in filled} == {128}
    assert {batch["mask"].shape[1] for batch in filled} == {6}
    taught = demo.assign(label=.5, teacher="x")  # but not what is held out
    assert TrainingData(demo, config, processes, taught).train.sentence.tolist() == [
        each for each in demo.sentence if each not in set(data.held_out.sentence)]
    everything = TrainingData(demo, Config(model="tiny", validation_fraction=0), processes)
    assert everything.held_out is None and len(everything.train) == 60
    assert everything.validate(cast(Any, None)) == {}

def test_the_best_epoch_is_kept(demo, processes):
    _, _, state = started(demo, processes)
    weight = next(state.model.parameters())
    rows = [  # MCC, loss, on labels?, last? → the best epoch so far, and whose weights are kept
        (.9, .1, False, False, 0, None), (.3, .5, True, False, 2, 2), (.3, .6, True, False, 2, 2),
        (.3, .4, True, False, 4, 4), (.2, .1, True, False, 4, 4), (.4, .9, True, True, 6, 4)]
    for number, (score, loss, on_labels, last, best, kept) in enumerate(rows, 1):
        with torch.no_grad(): weight.fill_(number)
        for _ in range(2): state.record(torch.tensor(2.))
        state.seconds = 3.
        assert state.losses[:3].tolist() == [2, 2, 0] and state.step == 2
        assert state.steps_done == (number - 1) * len(state.losses) + 2
        state.end_epoch({"validation_mcc": score, "validation_loss": loss}, on_labels, last)
        assert [state.epoch, state.step, state.seconds] == [number, 0, 0]
        assert not state.losses.any() and len(state.history) == number
        assert state.best_epoch == best
        assert (state.best and next(iter(state.best.values())).max().item()) == kept
    _, _, state = started(demo, processes)
    for number in (1, 2):
        state.end_epoch({}, True, False)
        assert state.best_epoch == number

def test_the_loop(demo, processes, monkeypatch):
    import cola_nbdev.training as training
    config = Config(model="tiny", epochs=2, batch_size=1, dropout=0., order_seed=5)
    data = TrainingData(demo, config, processes)
    state = TrainState.new(config, data, processes)
    checked, seeded, check = [], [], training.check_state
    def note(state, *rest):
        checked.append(state.step)
        return check(state, *rest)
    monkeypatch.setattr(training, "check_state", note)
    monkeypatch.setattr(training, "diagnose", Mock(return_value=["odd"]))
    fake: Any = Mock(wraps=processes, accelerator=processes.accelerator, world_size=1,
                     uses_graphs=lambda _: False)
    fake.seed = lambda *given: seeded.append(given)
    ended, end = [], TrainState.end_epoch
    def note_end(state, row, on_labels, last):
        ended.append((on_labels, last))
        end(state, row, on_labels, last)
    monkeypatch.setattr(TrainState, "end_epoch", note_end)
    events, began = [], time.perf_counter()
    for event in training.fit(state, config, data, fake):
        events.append(event)
        if event == "step":
            assert state.packed.training and state.schedule.last_epoch == len(seeded)
            assert state.losses[state.step - 1] > 0
            assert 0 < state.seconds < time.perf_counter() - began
    assert events == (["step"] * 54 + ["epoch"]) * 2
    assert ended == [(True, False), (True, True)]
    assert checked == [20, 40, 54] * 2 and seeded == [(5, step) for step in range(108)]
    assert [row["epoch"] for row in state.history] == [1, 2]
    assert state.findings == [[1, "odd"], [2, "odd"]]
    row, losses, labels, _, names = training.diagnose.call_args.args
    assert row is state.history[1] and len(losses) == len(labels) == 54
    assert row["training_loss"] == near(losses.mean().item()) and names[1] == "acceptable"
    assert {"validation_mcc", "validation_seconds", "training_seconds"} < set(row)

# Search and experiments

def test_what_a_search_may_try():
    from cola_nbdev.search import SPACE
    trial: Any = SimpleNamespace(
        suggest_float=lambda name, low, high, log=False: (name, low, high, log),
        suggest_int=lambda *given: given, suggest_categorical=lambda *given: given)
    config = Config(model="tiny", epochs=3, learning_rate=.004, batch_size=8)
    found = [ask(trial, config) for ask in SPACE.values()]
    assert found == [
        ("learning_rate", .001, .016, True), ("warmup", 0, .3, False),
        ("layer_decay", .7, 1, False), ("corrupted_epochs", 0, 2), ("class_weight", 1, 2, False),
        ("label_smoothing", 0, .2, False), ("dropout", 0, .2, False),
        ("reinitialized_layers", 0, 2), ("weight_decay", .001, .1, True),
        ("batch_size", [8, 16, 32, 64])]
    assert list(SPACE) == [name for name, *_ in found]

def test_the_table_of_a_search():
    optuna = pytest.importorskip("optuna")
    from cola_nbdev.search import Search
    study = optuna.create_study(direction="maximize")
    rates = {"learning_rate": optuna.distributions.FloatDistribution(0, 1)}
    with pytest.raises(ColaError, match="no trial was completed"): _ = Search(study, Config()).best
    assert list(Search(study, Config()).table()) == ["state", "validation_mcc", "seconds"]
    for rate, state, value, epochs in (
            (.1, "COMPLETE", .3, {}), (.2, "COMPLETE", .5, {}), (.3, "PRUNED", .9, {1: .9}),
            (.4, "FAIL", None, {1: .8, 2: .7}), (.5, "COMPLETE", .4, {}), (.6, "FAIL", None, {})):
        study.add_trial(optuna.trial.create_trial(
            state=getattr(optuna.trial.TrialState, state), value=value, distributions=rates,
            params={"learning_rate": rate}, intermediate_values=epochs))
    found = Search(study, Config(model="tiny", warmup=.2))
    assert (found.best.learning_rate, found.best.warmup) == (.2, .2)
    assert found.command() == "--learning-rate 0.2 --warmup 0.2"
    table = found.table()
    assert table.index.tolist() == [1, 4, 0, 2, 3, 5]
    assert table.validation_mcc.tolist() == near([.5, .4, .3, .9, .8, math.nan], nan_ok=True)
    assert table.learning_rate.tolist() == [.2, .5, .1, .3, .4, .6]
    assert table.seconds.tolist() == near([0] * 6, abs=9), "seconds, even if it is none at all"

def test_trials_are_counted_and_started_again():
    optuna = pytest.importorskip("optuna")
    from cola_nbdev.checkpoints import Stopped
    from cola_nbdev.search import _run_trials
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, stop = optuna.create_study(direction="maximize"), SimpleNamespace(received=2)
    answers = iter([.1, ColaError("it ran away"), Stopped("stopped in trial 2", 2), .3, .2])
    asked = []
    def work(trial):
        asked.append(trial.suggest_float("warmup", 0, 1))
        answer = next(answers)
        if isinstance(answer, Exception): raise answer
        return answer
    bar = SimpleNamespace(n=0)
    def update(more): bar.n += more
    bar.update = update
    with pytest.raises(Stopped, match="^stopped in trial 2, with 2 of 3 done; give") as found:
        _run_trials(study, work, 3, stop, bar)
    assert found.value.code == 130 and bar.n == 2
    _run_trials(study, work, 3, stop, bar)
    assert bar.n == 3 and len(asked) == 4 and asked[3] == asked[2], "it is tried again"
    _run_trials(study, work, 3, stop, bar)
    _run_trials(study, work, 4, stop, bar)
    assert bar.n == 4 and len(asked) == 5
    assert [trial.state.name for trial in study.trials] == [
        "COMPLETE", "PRUNED", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[1].user_attrs == {"error": "it ran away"}
    def mistaken(trial): raise ValueError("a mistake")
    with pytest.raises(ValueError, match="a mistake"): _run_trials(study, mistaken, 9, stop, bar)

def test_the_first_trial_starts_where_it_should():
    optuna = pytest.importorskip("optuna")
    from cola_nbdev.search import SPACE, _sampler
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    def tried(seed):
        config = Config(model="tiny", seed=seed)
        study = optuna.create_study(sampler=_sampler(config), direction="maximize")
        def work(trial): return [SPACE[name](trial, config) for name in ("warmup", "dropout")][0]
        study.optimize(work, n_trials=4)
        assert vars(study.sampler)["_constant_liar"], "others' running trials count"
        return [trial.params for trial in study.trials]
    first = tried(1)
    assert first == tried(1) and first[1:] != tried(2)[1:]
    assert first[0]["warmup"] == 0 != first[0]["dropout"], "dropout None is the model's own"
    assert first[2] == tried(2)[1], "what a trial tries depends on its number alone"

def test_a_heart_beats_on(tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna")
    from cola_nbdev.search import _open_database
    storage, beat = _open_database(tmp_path/"a%b?.db", 7), Mock()
    assert (tmp_path/"a%b?.db").exists()
    assert (storage.heartbeat_interval, storage.grace_period) == (7, 28)
    monkeypatch.setattr(optuna.storages.RDBStorage, "record_heartbeat", beat)
    for error in (None, optuna.exceptions.StorageInternalError()):
        beat.side_effect = error
        storage.record_heartbeat(3)
    assert [call.args for call in beat.call_args_list] == [(3,)] * 2

def test_a_database_that_is_made_twice(monkeypatch):
    pytest.importorskip("optuna")
    import cola_nbdev.search as module
    waited, failed = Mock(), Mock(side_effect=ValueError("database is locked"))
    monkeypatch.setattr(module.time, "sleep", waited)
    monkeypatch.setattr(module, "_open_database", failed)
    with pytest.raises(ColaError, match="cannot be used"): module._open_study("x", "y", 1, "x")
    assert failed.call_count == 5 and [call.args for call in waited.call_args_list] == [(.5,)] * 4
    failed.side_effect = ValueError("odd")
    with pytest.raises(ColaError, match="cannot be used"): module._open_study("x", "y", 1, "x")
    assert failed.call_count == 6

def test_a_search_is_written_down(demo, tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.INFO)
    import cola_nbdev.search as module
    tried, corpus = [], Corpus("demo", {"train": demo})
    def train_trial(trial, sentences, config, stop):
        assert sentences is demo and stop.received == 0
        tried.append(config.warmup)
        return 1 - abs(config.warmup - .2)
    monkeypatch.setattr(module, "_train_trial", train_trial)
    def search(trials, **settings):
        return module.search(corpus, Config(model="tiny", **settings), trials, tmp_path/"a"/"b",
                             ("warmup", "dropout"), progress=False)
    for trials in (4, 7): found = search(trials)
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    scores = [1 - abs(warmup - .2) for warmup in tried]
    table = pd.read_csv(tmp_path/"a"/"b"/"trials.csv")
    assert table.validation_mcc.tolist() == near(sorted(scores, reverse=True))
    assert len(tried) == 7 and tried[0] == 0
    best = json.loads((tmp_path/"a"/"b"/"best.json").read_text())
    assert Config(**best) == found.best and best["warmup"] == tried[int(np.argmax(scores))]
    assert found.study.user_attrs["fixed"]["vary"] == ["dropout", "warmup"]
    assert vars(found.study.pruner)["_n_startup_trials"] == 5
    with pytest.raises(ColaError, match="another search: epochs 4"): search(7, epochs=3)
    (tmp_path/"file").write_text("")
    with pytest.raises(ColaError, match="cannot be written"):
        module.search(corpus, Config(), out=tmp_path/"file")

@pytest.mark.parametrize("settings, trials, vary, says", [
    ({}, 1, ["warmup"], ""), ({}, 0, ["warmup"], "nothing to search"),
    ({}, 1, [], "nothing to search"), ({}, 1, ["warmup", "odd"], "odd cannot be varied"),
    ({"validation_fraction": 0}, 1, ["warmup"], "nothing to choose by")])
def test_what_a_search_needs(settings, trials, vary, says):
    from cola_nbdev.search import _check_search
    if not says: return _check_search(Config(**settings), trials, vary)
    with pytest.raises(ColaError, match=says): _check_search(Config(**settings), trials, vary)

def test_the_table_of_seeds():
    runs = {7: frame_of(np.random.default_rng(1)), 9: frame_of(np.random.default_rng(2))}
    runs[9] = runs[9].assign(predicted=runs[9].predicted.where(runs[9].split == "one", 0))
    table = Seeds({seed: report_of(run) for seed, run in runs.items()}).table()
    assert table.seed.tolist() == [7] * 3 + [9] * 3
    assert table.split.tolist() == ["one", "other", "all_dev"] * 2
    assert table.degenerate.tolist() == [False] * 4 + [True, False]
    assert table.mcc[2] == near(matthews_corrcoef(runs[7].label, runs[7].predicted))
    single = Seeds({7: report_of(runs[7])}).summary().loc["all_dev"]
    assert single.seeds == 1 and np.isnan(single["seed sd"]) and single.low < single["mean"]
    alike = Seeds({seed: report_of(run.assign(predicted=1)) for seed, run in runs.items()}, True)
    found = alike.summary().loc["all_dev"]
    assert found.dropped == 2 and found[["mean", "low", "seed sd"]].isna().all()

def test_runs_of_one_recipe(tmp_path):
    from cola_nbdev.experiments import same_recipe
    corpus: Any = SimpleNamespace(fingerprint="x")
    for seed in (1, 2):  # neither the seed nor how often it is saved matters
        same_recipe(corpus, Config(model="tiny", seed=seed, keep_checkpoints=seed), tmp_path/"a")
    known = json.loads((tmp_path/"a"/"recipe.json").read_text())
    assert known["corpus"] == "x" and known["varies"] == "seed" and known["head_seed"] is None
    assert "seed" not in known and "keep_checkpoints" not in known
    for what, settings, says in (("head", {}, "varies seed .now head"), ("seed", {"epochs": 3},
                                 "another recipe: epochs 4 .now 3")):
        with pytest.raises(ColaError, match=says):
            same_recipe(corpus, Config(model="tiny", **settings), tmp_path/"a", what)
    (tmp_path/"file").write_text("")
    with pytest.raises(ColaError, match="cannot be written"):
        same_recipe(corpus, Config(), tmp_path/"file"/"x")

def test_a_lead_over_baselines():
    from cola_nbdev.experiments import _scores
    dev = frame_of(np.random.default_rng(1))
    dev = dev.assign(label=dev.label.where(dev.split == "one", 1))  # a split of one class
    rng = np.random.default_rng(2)
    runs = [np.where(rng.random((3, 600)) < right, dev.label, 1 - dev.label) for right in (.6, .8)]
    table = _scores({"base": runs[0]}, {"mine": runs[1], "other": runs[0]}, dev, "both")
    assert {split for split, _ in table} == {"one", "both"}
    labels, one = dev.label[:200], [each[:, :200] for each in runs]
    scores = [[matthews_corrcoef(labels, run) for run in each] for each in one]
    base, mine = table.loc["base", "one"], table.loc["mine", "one"]
    assert mine[["mcc", "low", "high"]].tolist() == near(mcc_of_seeds(labels, one[1]))
    assert base.lead == near(np.mean(scores[1]) - np.mean(scores[0]))
    draws = paired_draws(labels, one[0], one[1])
    assert [base.lead_low, base.lead_high] == near(np.quantile(draws, [.025, .975]))
    assert np.isnan(mine.lead)
    assert "lead" not in _scores({"base": runs[0]}, {}, dev, "both")["one"]

def test_what_teachers_think(demo):
    from cola_nbdev.experiments import ask_teachers
    def judge(probability, name):
        return SimpleNamespace(fingerprint=name, predict_probability=lambda sentences, done: (
            np.full(len(sentences), probability), None))
    corpus = Corpus("demo", {"train": demo, "dev": demo[3:5]})
    judges: Any = [judge(.2, "a"), judge(.6, "b")]
    more = ["One more.", demo.sentence[0], demo.sentence[3]]
    found = ask_teachers(judges, corpus, more, corrupted=0, progress=False)
    asked = [*demo.sentence.drop([3, 4]).drop_duplicates(), "One more."]  # no dev sentence
    assert found.sentence.tolist() == asked
    assert found.label.tolist() == near([.4] * len(asked)) and set(found.teacher) == {"a b"}

def test_vectors_of_first_tokens():
    from cola_nbdev.experiments import first_half, layer_vectors
    model, tokenizer = load_model("tiny").eval(), load_tokenizer("tiny")
    sentences = ["He left.", "The cat that I saw sleeps on the mat.", "Go!", "Who?", "We ate it"]
    [found] = layer_vectors(model, tokenizer, sentences, batch_size=2, first=-1)["cls"]
    with torch.no_grad():
        for sentence, vector in zip(sentences, found, strict=True):
            ids = torch.tensor([tokenizer(sentence)["input_ids"]])
            alone = cast(Any, model).bert(ids).last_hidden_state[0, 0]
            assert vector.tolist() == near(alone.tolist(), abs=1e-5)
    assert first_half("a b c d e") == "a b" and first_half("a b c d") == "a b"
    assert first_half("a") == "a" and first_half("") == ""

def test_a_watched_training(demo):
    from cola_nbdev.experiments import train_with_dynamics
    from cola_nbdev.packing import predict_logits
    config = Config(model="tiny", epochs=2, batch_size=8, validation_fraction=0)
    run, dynamics = train_with_dynamics(demo, demo[:9], config, progress=False)
    logits = predict_logits(run.model, run.tokenizer, demo.sentence[:9]).astype(float)
    odds = logits[:, 1] - logits[:, 0]
    p = 1 / (1 + np.exp(-odds))
    assert dynamics.shape == (2, 9)
    assert dynamics[1] == near(np.where(demo.label[:9] == 1, p, 1 - p), abs=1e-6)

def test_seeds_that_another_process_has(demo, tmp_path, monkeypatch):
    import cola_nbdev.experiments as module
    from cola_nbdev.checkpoints import Stopped
    report, waited, tried = report_of(frame_of(np.random.default_rng(1))), Mock(), []
    corpus: Any = SimpleNamespace(fingerprint="x", train=demo)
    answers = iter([None, None, report, None, report])
    def turn(corpus, config, folder, progress):
        tried.append((config.seed, folder.name))
        answer = next(answers)
        if isinstance(answer, Exception): raise answer
        return answer
    monkeypatch.setattr(module, "_run_seed", turn)
    monkeypatch.setattr(module.time, "sleep", waited)
    config = Config(model="tiny")
    found = module.run_seeds(corpus, config, [3, 5], tmp_path, False)
    assert list(found.reports) == [3, 5] and (tmp_path/"summary.json").exists()
    assert [seed for seed, _ in tried] == [3, 5, 3, 5, 5] and tried[0][1] == "seed-3"
    assert [call.args for call in waited.call_args_list] == [(.5,)]
    answers = iter([report, Stopped("", 15)])
    with pytest.raises(Stopped, match="stopped at seed 5, with 1 of 2 done") as stopped:
        module.run_seeds(corpus, config, [3, 5], tmp_path, False)
    assert stopped.value.code == 128 + 15
    for seeds, says in (([3], "at least two"), ([3, 3, 4], "each given once")):
        with pytest.raises(ColaError, match=says): module.run_seeds(corpus, config, seeds, tmp_path)

class OnGPU(torch.Tensor):
    "Not on a GPU, but it takes it for one"
    def to(self, device, copy):
        assert device == "cuda" and copy
        return self.clone()

def test_a_step_is_captured_the_second_time(monkeypatch):
    import cola_nbdev.packing as module
    recording, optimizer = [], SimpleNamespace(param_groups=[{"lr": .1}, {"lr": .2}])
    class Graph:
        def replay(self): self.work()
    @contextmanager
    def record(graph, pool):
        assert pool == "pool"
        recording.append(graph)
        yield
        recording.clear()
    cuda = SimpleNamespace(graph_pool_handle=lambda: "pool", CUDAGraph=Graph, graph=record)
    monkeypatch.setattr(module, "torch", SimpleNamespace(
        cuda=cuda, zeros=lambda shape, device: torch.zeros(shape)))
    captured = []
    def step(batch):
        loss, rates = torch.zeros(()), [group["lr"] for group in optimizer.param_groups]
        def work(): loss.fill_(batch["x"].sum().item() * sum(map(float, rates)))
        if recording:
            captured.append([group["capturable"] for group in optimizer.param_groups])
            recording[0].work = work
        else: work()
        return loss
    graphed, losses = module.GraphedStep(step, cast(Any, optimizer)), []
    for values, rates in (([1., 2], (.1, .2)), ([3., 4], (.5, .5)), ([5., 6], (.25, .75)),
                          ([1., 1, 1], (1., 1.))):
        for group, rate in zip(optimizer.param_groups, rates, strict=True): group["lr"] = rate
        losses.append(graphed({"x": torch.tensor(values).as_subclass(OnGPU)}))
        assert [group["lr"] for group in optimizer.param_groups] == [*rates]
        assert not any(group.get("capturable") for group in optimizer.param_groups)
    assert [loss.item() for loss in losses] == near([.9, 7, 11, 6])
    assert captured == [[True, True]], "the second batch of its shape, and no other"

# What is saved

@pytest.fixture
def clock(monkeypatch):
    "The seconds that training thinks have passed, and what it would have saved"
    import cola_nbdev.training as training
    found = SimpleNamespace(seconds=0., save=Mock())
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: found.seconds))
    monkeypatch.setattr(training, "save_state", found.save)
    return found

def test_when_a_run_is_saved(demo, processes, tmp_path, clock):
    from cola_nbdev.training import CheckpointFolder
    config, _, state = started(demo, processes, checkpoint_minutes=2., keep_checkpoints=3)
    folder = tmp_path/"a"/"run"
    with CheckpointFolder(folder, config, {"a": 1}, False) as saved:
        assert folder.is_dir()
        for clock.seconds, due in ((0, False), (119.9, False), (120, True)):
            assert saved.due("step") is due and saved.due("epoch")
        saved.save(state, processes)
        assert not clock.save.called, "no step has been done"
        state.record(torch.tensor(.5))
        saved.save(state, processes)
        clock.save.assert_called_once_with(folder, state, {"a": 1}, processes, 3)
        assert saved.saved_step == 1
        for clock.seconds, due in ((239, False), (240, True)): assert saved.due("step") is due
        saved.save(state, processes)
        assert clock.save.call_count == 1
        def slow(*_): clock.seconds += 10
        clock.save.side_effect = slow
        state.record(torch.tensor(.5))
        saved.save(state, processes)  # at second 240: it takes 10, which may be 2% of the time
        for clock.seconds, due in ((749, False), (750, True)): assert saved.due("step") is due
        saved.config = Config(checkpoint_minutes=0)
        assert saved.due("step")
    with CheckpointFolder(None, config, {}, False) as saved:
        assert not saved.due("epoch")
        saved.save(state, processes)
        saved.restore(state, processes)
    assert clock.save.call_count == 2

def test_what_is_never_saved(demo, processes, tmp_path, clock, capsys):
    from cola_nbdev.training import CheckpointFolder
    config, _, state = started(demo, processes, checkpoint_minutes=2.)
    with CheckpointFolder(tmp_path/"run", config, {}, False) as saved:
        for error, stays in ((ColaError("it is full"), ""), (None, ""),
                             (ColaError("it is full"), ", and the previous checkpoint stays")):
            clock.save.side_effect = error
            for _ in range(2):
                clock.seconds += 120
                state.record(torch.tensor(.5))
                saved.save(state, processes)
                assert not saved.due("step"), "it is tried again, but not at once"
            said = capsys.readouterr().err  # once
            assert said == (f"it is full; training continues{stays}\n" if error else "")
            assert saved.saved_step == (4 if stays else 0 if error else state.steps_done)
        state.record(torch.tensor(math.nan))
        with pytest.raises(ColaError, match="became nan at step 7"): saved.save(state, processes)
        state.losses[6] = .5
        with torch.no_grad(): next(state.model.parameters())[0, 0] = math.inf
        with pytest.raises(ColaError, match="no longer numbers by step 7"):
            saved.save(state, processes)
    assert clock.save.call_count == 6

def test_a_run_is_resumed(demo, processes, tmp_path):
    from cola_nbdev.training import CheckpointFolder, fit, settings_of
    config, data, state = started(demo, processes, warmup=.1)
    identity, folder = settings_of(demo, config), tmp_path/"run"
    assert identity != settings_of(demo[1:], config)
    def steps(state, count):
        for _ in zip(range(count), fit(state, config, data, processes), strict=False): pass
    with CheckpointFolder(folder, config, identity, True) as saved:
        saved.restore(state, processes)
        for _ in range(2):
            steps(state, 3)
            saved.save(state, processes)
    damaged, staging = folder/"step-00000006"/"facts.json", folder/".cola-staging-x"
    damaged.write_text("{}")
    staging.mkdir()
    with CheckpointFolder(folder, config, identity, True) as saved:
        resumed = TrainState.new(config, data, processes)
        saved.restore(resumed, processes)
        assert resumed.step == saved.saved_step == 3 and isinstance(resumed.best_score, tuple)
        assert [path.name for path in folder.iterdir()] == ["step-00000003"]
    steps(resumed, 3)
    assert resumed.losses.tolist() == state.losses.tolist()
    assert all(torch.equal(one, other) for one, other in zip(
        resumed.model.parameters(), state.model.parameters(), strict=True))
    (folder/"step-00000003"/"facts.json").write_text("{}")
    with CheckpointFolder(folder, config, identity, True) as saved:
        anew = TrainState.new(config, data, processes)
        saved.restore(anew, processes)
        assert anew.step == saved.saved_step == 0 and not [*folder.iterdir()]
        saved.save(state, processes)
    for settings, resume, says in ((identity, False, "holds the checkpoints of a run"),
                                   (identity | {"seed": 7}, True, "another run: seed 42")):
        with CheckpointFolder(folder, config, settings, resume) as saved, \
                pytest.raises(ColaError, match=says): saved.restore(resumed, processes)

def test_a_stopped_run_goes_on(demo, tmp_path, monkeypatch):
    import cola_nbdev.training as training
    learn, learned = training.learn, []
    def interrupted(*given):
        learned.append(1)
        if len(learned) == 3: signal.raise_signal(signal.SIGTERM)
        return learn(*given)
    config, folder = Config(model="tiny", epochs=2, batch_size=8), tmp_path/"run"
    whole = training.train(demo, config, progress=False)
    monkeypatch.setattr(training, "learn", interrupted)
    first = training.train(demo, config, folder, progress=False)
    assert (first.stopped, first.step, first.saved, len(learned)) == (signal.SIGTERM, 3, 3, 3)
    rest = training.train(demo, config, folder, resume=True, progress=False, names=("bad", "good"))
    assert (rest.stopped, rest.step, rest.saved, len(learned)) == (0, 14, 14, 14)
    done = training.train(demo, config, folder, resume=True, progress=False)
    assert (done.stopped, done.step, len(learned)) == (0, 14, 14), "nothing is left to do"
    assert cast(Any, rest.model.config).id2label == {0: "bad", 1: "good"}
    assert rest.base == whole.base != "" and rest.best_epoch == whole.best_epoch
    for one, other in zip(rest.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)

@pytest.mark.parametrize("progress", [True, False])
def test_what_is_lost_is_told(demo, capsys, progress):
    import cola_nbdev.training as training
    training.train(demo[:20], Config(model="tiny", epochs=1, max_length=6), progress=progress)
    assert ("more than 6 tokens" in capsys.readouterr().out) is progress

@pytest.mark.parametrize("matched, stopped, called", [
    (False, 0, False), (True, 0, True), (True, 2, False)])
def test_a_run_is_finished(demo, processes, monkeypatch, matched, stopped, called):
    import cola_nbdev.training as training
    match = Mock()
    monkeypatch.setattr(training, "match_label_prior", match)
    config, data, state = started(demo, processes, match_label_prior=matched)
    for best_epoch, weight in ((1, 7), (2, 5)):
        state.best = {name: torch.full_like(each, 7)
                      for name, each in state.model.state_dict().items()}
        for each in state.model.parameters(): torch.nn.init.constant_(each, 5)
        state.best_epoch, state.step = best_epoch, 3
        state.model.train()
        run = training.finish(state, config, data, stopped, 9)
        assert not run.model.training
        assert {each.item() for each in next(run.model.parameters())[0]} == {weight}
        assert (run.stopped, run.saved, run.step, run.best_epoch) == (stopped, 9, 3, best_epoch)
    assert match.called is called
    if called: match.assert_called_with(state.model, data.tokenizer, data.held_out, 64)

def test_a_loss_that_is_no_number_is_at_its_step(demo, processes):
    from cola_nbdev.training import check_state
    config, _, state = started(demo, processes)
    state.epoch, state.step = 2, 4
    state.losses[:] = torch.tensor([.5, .5, .5, .5, *[math.nan] * (len(state.losses) - 4)])
    assert check_state(state, config, processes).tolist() == [.5] * 4
    state.step = 5
    with pytest.raises(ColaError, match=f"at step {2 * len(state.losses) + 5};"):
        check_state(state, config, processes)

def test_checkpoints_have_names(tmp_path):
    from cola_nbdev.checkpoints import checkpoints
    for name in ("step-00000009", "step-00000010", "step-100000000", "step-1", "step-0000000x",
                 "best", "step-00000001.old"):
        (tmp_path/name).mkdir()
        (tmp_path/name/"manifest.json").write_text("{}")
    (tmp_path/"step-00000011").mkdir()  # without a list of files: somebody else's
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-100000000", "step-00000010", "step-00000009"]

def test_a_checkpoint_is_written_whole(tmp_path, monkeypatch):
    import cola_nbdev.checkpoints as module
    folder = tmp_path/"a"/"b"
    shared, table = torch.arange(4.), torch.arange(6.).view(2, 3).t()
    tensors = {"model": {"one": shared, "other": shared, "table": table,
                         "empty": torch.zeros(0), "none": torch.zeros(0)}}
    first = module.save_checkpoint(folder, 7, tensors, {"a": 1})
    found, facts = module.read_checkpoint(first)
    assert first.name == "step-00000007" and facts == {"a": 1}
    assert sorted(found["model"]) == ["empty", "none", "one", "table"]
    assert torch.equal(found["model"]["table"], table) and found["model"]["one"].tolist() == [
        0, 1, 2, 3]
    again = module.save_checkpoint(folder, 7, tensors, {"a": 2})
    assert module.read_checkpoint(again)[1] == {"a": 1}, "it is there already"
    (first/"facts.json").write_text("{}")
    assert module.find_corruption(first) == "facts.json is damaged"
    module.save_checkpoint(folder, 7, tensors, {"a": 2})
    assert module.read_checkpoint(first)[1] == {"a": 2}, "a damaged one is replaced"
    for step in (8, 9): module.save_checkpoint(folder, step, tensors, {})
    assert [path.name[-1] for path in module.checkpoints(folder)] == ["9", "8"]
    removed = Mock(wraps=module.shutil.rmtree)
    monkeypatch.setattr(module.shutil, "rmtree", removed)
    module.remove_checkpoint(first.with_name("step-00000008"))
    assert [call.args[0].parent for call in removed.call_args_list] == [folder], "on the same disk"
    module.save_checkpoint(folder, 8, tensors, {})
    (folder/".cola-staging-x").write_text("no folder")
    module.clear_staging(folder)
    (folder/".cola-staging-x").unlink()
    monkeypatch.setattr(module, "_write", Mock(side_effect=OSError(28, "No space left")))
    with pytest.raises(ColaError, match=r"^the checkpoint of step 10 .*\(no space left\)"):
        module.save_checkpoint(folder, 10, tensors, {})
    assert len([*folder.iterdir()]) == 2, "nothing is left behind"
    told = []
    (folder/"step-00000009"/"manifest.json").write_text("{}")
    assert module.latest_checkpoint(folder, told.append) == folder/"step-00000008"
    assert told == ["skipping the checkpoint step-00000009: manifest.json is damaged"]
    assert module.latest_checkpoint(tmp_path/"none") is None

def test_a_lock_that_is_not_ours_is_left_alone(tmp_path):
    from cola_nbdev.checkpoints import Busy, one_writer
    def is_refused():
        try:
            with one_writer(tmp_path/"run"): return False
        except ColaError as error: return "was not made by this command" in str(error)
    for name, fine, foreign in ((".run.cola.lock", [b"", b"1\n" + b"x" * 197],
                                 [b"x", b"1", b"1\n" + b"x" * 198]),
                                (".run.cola.pid", [b"", b"1" * 20], [b"x", b"1" * 21, b"1\n2"])):
        for content in fine + foreign:
            (tmp_path/name).write_bytes(content)
            assert is_refused() is (content in foreign), content
            assert (tmp_path/name).exists() is (content in foreign)
        (tmp_path/name).unlink(missing_ok=True)
    with one_writer(tmp_path/"run"):
        assert (tmp_path/".run.cola.pid").read_text() == str(os.getpid())
        with pytest.raises(Busy, match=f"process {os.getpid()}"), one_writer(tmp_path/"run"): pass
        (tmp_path/".run.cola.pid").write_text("")
        with pytest.raises(Busy, match="another process"), one_writer(tmp_path/"run"): pass
        (tmp_path/".run.cola.pid").unlink()
    assert not [*tmp_path.iterdir()]

def test_signals_are_noted():
    from cola_nbdev.checkpoints import Stopped, StopSignals
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as stop:
        assert stop.received == 0
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
            assert stop.received == number
        with pytest.raises(KeyboardInterrupt): signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert (Stopped("so", 15).code, str(Stopped("so", 15))) == (143, "so")

def test_a_word_means_the_same_everywhere():
    found: dict = {}
    for name in ("calibration", "checkpoints", "comparison", "evaluation", "experiments",
                 "packing", "pairs", "search", "training"):
        module = importlib.import_module(f"cola_nbdev.{name}")
        for each in module.__all__:
            if not inspect.isfunction(getattr(module, each)): continue
            for word, given in inspect.signature(getattr(module, each)).parameters.items():
                if type(given.default) in (int, float, bool, tuple):
                    found.setdefault(word, set()).add(given.default)
    assert found.items() >= {
        "names": {("A", "B"), ("unacceptable", "acceptable")},
        "seeds": {(42, 43, 44, 45, 46), (3, 5, 10, 20)}, "draws": {2000, 10_000}, "seed": {0, 42},
        "level": {.05, .95}, "bins": {10}, "power": {.8}, "mid": {False}, "paired": {False},
        "drop_degenerate": {False}, "batch_size": {32, 64}, "max_length": {64},
        "multiple": {1}, "longest": {0}, "chunks": {1}, "chunk": {2048}, "least": {5},
        "count": {5}, "progress": {False, True}, "trials": {20}, "heartbeat": {15}, "warmup": {0},
        "exercises": {0}, "share": {1}, "stopped": {0}, "saved": {0}, "resume": {False},
        "keep": {2}}.items()
