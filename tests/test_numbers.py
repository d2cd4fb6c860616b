"""Every number is right: pinned to values that were computed some other way.

The constants come from independent tools (R, statsmodels 0.14, scikit-learn, by hand), not from the
package. What needs thousands of simulated experiments is a slow cell of the pages; a short form of
each is here, with wider limits.
"""
import json
import math
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest, ttest_1samp
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
    compare,
    majority,
    mcc_of_seeds,
    mcnemar,
    measure_variances,
    p_of_draws,
    paired_draws,
    plan,
    seed_variance,
)
from cola_nbdev.data import load_corpus, occurs_in
from cola_nbdev.evaluation import (
    Report,
    bootstrap_mcc,
    draw_mcc,
    holm,
    interval_of,
    mcc,
    mcc_beyond,
    mcc_of_counts,
    mcc_of_groups,
    shrink,
    split_difference,
    split_masks,
    split_metrics,
)
from cola_nbdev.experiments import Seeds, cartography
from cola_nbdev.packing import Packed, accumulate, pack_batch
from cola_nbdev.pairs import wilson
from cola_nbdev.search import expected_best
from cola_nbdev.settings import Config, command_options
from cola_nbdev.training import (
    TrainingData,
    TrainState,
    learn,
    match_label_prior,
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

def test_a_difference_of_splits():
    frame = pd.concat([pd.DataFrame(dict(zip(("label", "predicted"), sentences_of(*cells))))
                       .assign(split=split) for split, cells in (
                           ("in_domain", (64, 98, 32, 333)),
                           ("out_of_domain", (43, 119, 38, 316)))])
    found = split_difference(frame, "in_domain", "out_of_domain")
    assert found == near((.165766, .039, .293), abs=.006)
    assert split_difference(frame, "out_of_domain", "in_domain").mcc == near(-found.mcc)

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
    for k in (3, 5, 10):
        assert table["power on 1,043"][k] == near(seen(known, .04, k, 1043), abs=.015)
    needed = table.sentences[20]
    if sd == .02: assert needed < table.sentences[10]
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
    assert [off.low, off.high] == near([.085, .115], abs=.004)
    assert off.floor == near(math.sqrt(.21 / 4000 * 2 / math.pi), rel=.05)  # of a half normal

def test_before_and_after():
    frame = pd.DataFrame({"label": Y, "logit": LOGIT.astype(float),
                          "sentence": [f"S {number}" for number in range(8)]})
    other = frame.assign(sentence=frame.sentence + "!")
    found = calibrate(frame, other)
    assert found.temperature == near(1.967610, abs=1e-6)
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
    asked = pd.DataFrame({"phenomenon": ["a"] * 6 + ["b"] * 4, "good": list("ABCDEFGHIJ"),
                          "bad": list("abcdefghij")})
    odds = dict(zip("ABCDEFGHIJ", [1, 1, 1, 0, -1, 1, 1, 0, 0, -2]))  # those of the bad ones are 0
    def logits(model, tokenizer, sentences, **_):
        return np.array([[0, odds.get(sentence, 0)] for sentence in sentences])
    monkeypatch.setattr(module, "predict_logits", logits)
    judge: Any = SimpleNamespace(model=None, tokenizer=None, max_length=64)
    expected = [1, 1, 1, .5, 0, 1, 1, .5, .5, 0]
    for chunk in (1, 3, 100):
        assert module.prefer_good(judge, asked, chunk).tolist() == expected
    table = module.evaluate_pairs(judge, asked)
    assert table.index.tolist() == ["a", "b", "all", "other phenomena"]
    assert table.pairs.tolist() == [6, 4, 10, 10]
    assert table.accuracy.tolist() == near([.75, .5, .65, .625])
    assert (table.low["all"], table.high["all"]) == near(wilson(6.5, 10))
    low, high = ttest_1samp([.75, .5], 0).confidence_interval(.95)
    assert low < 0 and (table.low.iloc[3], table.high.iloc[3]) == (0, 1)
    alone = module.evaluate_pairs(judge, asked[:6])
    assert alone.index.tolist() == ["a", "all"]

def test_pairs_are_neighbors():
    from cola_nbdev.pairs import pairs_of
    rows = pd.DataFrame({"sentence_source": ["x", "x", "y", "y"], "label": [1, 0, 0, 1],
                         "sentence": list("abcd"), "phenomenon": ["p", "p", "q", "q"]})
    found = pairs_of(rows)
    assert found.to_dict("list") == {"field": ["x", "y"], "phenomenon": ["p", "q"],
                                     "good": ["a", "d"], "bad": ["b", "c"]}
    for wrong in (rows[:3], rows.assign(label=1), rows.assign(sentence_source=list("xyzz"))):
        with pytest.raises(ColaError): pairs_of(wrong)

@pytest.mark.parametrize("losses, says", [
    ([6.] * 20, "the loss ran away: 6 nats by step 107"), ([4.9] * 20, ""),
    ([6.] * 20 + [4.9] * 20, ""), ([1.] * 40 + [5.1] * 20, "ran away: 5 nats by step 147"),
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

def test_settings_have_their_values():
    from cola_nbdev.settings import PLAIN, RECIPE
    assert PLAIN == {"learning_rate": 2e-5, "warmup": 0, "layer_decay": 1, "corrupted_epochs": 0,
                     "reinitialized_layers": 0, "frozen_embeddings": False}
    assert RECIPE == {"learning_rate": 2e-4, "warmup": .1, "layer_decay": .85,
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
    found = _answers(train, train, vectors, 1, 6)
    scores = {name: [mcc(train.label, run) for run in runs] for name, runs in found.items()}
    assert scores["bag of words"] == scores["frozen encoder"] == [1]
    assert scores["majority class"] == [0] and len(scores["shuffled labels"]) == 6
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
        return data.held_out.sentence.tolist(), state.model.classifier.weight.tolist(), ids
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
        return loss.item(), packed.model.classifier.weight.grad.clone(), chunks
    loss, whole, _ = gradient(packed, 1)
    split_loss, split, chunks = gradient(Forgetful(packed), 2)  # one chunk done, then no memory
    assert chunks == 4 and split_loss == near(loss, rel=1e-5)
    assert torch.allclose(split, whole, atol=1e-6)

def test_the_label_prior_is_matched(monkeypatch):
    import cola_nbdev.training as training
    odds = np.array([-2, -1, .5, 1, 3])
    monkeypatch.setattr(training, "distributed_logits",
                        lambda *_, **__: np.stack([-odds / 2, odds / 2], 1))
    model: Any = torch.nn.Sequential(torch.nn.Linear(3, 2))
    before = model[0].bias.detach().clone()
    held_out = pd.DataFrame({"sentence": list("abcde"), "label": [1, 1, 1, 0, 0]})
    shift = match_label_prior(model, cast(Any, None), held_out)
    assert np.quantile(odds, .4) == near(-.1) and shift == near(.1)  # from the cut at −.1 to 0
    moved = (model[0].bias - before).detach().tolist()
    assert moved == near([-.05, .05], abs=1e-6)

def test_the_scaler_is_saved_and_restored(demo, processes, tmp_path, monkeypatch):
    from cola_nbdev.checkpoints import latest_checkpoint, read_checkpoint
    _, _, state = started(demo, processes)
    scaler = Mock(state_dict=lambda: {"scale": 1024.})
    accelerator = SimpleNamespace(scaler=scaler)
    fake: Any = SimpleNamespace(total=processes.total, rank=0, device=processes.device,
                                accelerator=accelerator)
    save_state(tmp_path, state, {}, fake)
    newest = latest_checkpoint(tmp_path)
    assert newest
    tensors, facts = read_checkpoint(newest)
    assert json.loads(json.dumps(facts["scaler"])) == {"scale": 1024.}
    restore_state(state, tensors, facts, fake)
    scaler.load_state_dict.assert_called_once_with({"scale": 1024.})

def test_a_batch_is_packed():
    batch = pack_batch([([1, 2, 3], 1), ([4, 5], 0)])
    assert batch["labels"].tolist() == [1, 0] and batch["offsets"].tolist() == [0, 3]
