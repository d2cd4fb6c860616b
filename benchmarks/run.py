"""Runs all benchmarks and sets their figures beside the targets: python benchmarks/run.py [--quick] [training scoring …]

Writes results/README.md. Every benchmark runs in a process of its own, so none inherits another's memory, and one that fails stops no other.
About 10 minutes on 2 cores, with --quick less than 2, and on top of it bulk and engine, which score 100,000 sentences several times and a million once. Close other programs: the competitors suffer from them together, but not equally.
"""
import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from side_by_side import SIZES, folder_of, in_words, markdown, spread, table

BENCHMARKS = ("training", "scoring", "tokenization", "limit", "growth", "startup", "checkpoints", "bulk", "processes", "engine", "gpu")

# --- figures: what the benchmarks found → a spread over the rounds, or None where this was not measured ---

def times_faster(benchmark, competitor, ours="ours"):
    "How many times as long the competitor took in the same round"
    def figure(found):
        if benchmark not in found or ours not in found[benchmark]["rounds"][0]: return None
        if benchmark == "gpu" and not found["gpu"]["machine"]["gpu"]: return None # the trial that runs anywhere
        return spread(times[competitor] / times[ours] for times in found[benchmark]["rounds"])
    return figure

def share_of_limit(found): return found["limit"]["share_of_limit"] if "limit" in found else None

def peak_memory(found):
    "Our peak over that of the seed's loop, both of the whole process"
    memory = found.get("training", {}).get("memory")
    return spread([memory["ours"]["peak_megabytes"] / memory["seed's loop"]["peak_megabytes"]]) if memory else None

# --- conditions on the stretch beyond its number, and what to add to a figure ---

def labels_changed(found):
    "At most 1%; and nothing can be said of a network that gives almost all sentences the same label"
    share, judged = found["scoring"]["differences"]["int8 (another answer)"]["labels_changed"], found["scoring"]["share_judged_acceptable"]
    return share <= .01 and .05 <= judged <= .95, f"{share:.1%} of the labels changed"

def seconds_in_all(found):
    seconds = spread(times["ours"] for times in found["gpu"]["rounds"])["median"]
    return seconds < 10, f"{seconds:.1f} s in all on {found['gpu']['machine']['gpu']}"

def seconds_to_start(found):
    seconds = spread(times["ours"] for times in found["startup"]["rounds"])["median"]
    return seconds < 3, f"{seconds:.1f} s"

def share_of_a_minute(found):
    seconds, share = (spread(times["ours"] for times in found["checkpoints"]["rounds"])["median"], found["checkpoints"]["share_of_a_minute"]["median"])
    return seconds < 1.5 and share < .03, f"{seconds:.2f} s, {share:.1%} of a minute"

def files_and_memory(found):
    more = found["bulk"]["more_megabytes"]
    return more <= 150, f"{more} MB more for {found['bulk']['settings']['many']:,} sentences than for {found['bulk']['settings']['few']:,}"

def same_losses(found):
    difference = found["processes"]["largest_loss_difference"]
    return difference <= 1e-5, f"the losses differ by at most {difference:.0e}"

def workers_memory(found):
    growth, rows = found["engine"]["memory_growth"], found["engine"]["settings"]["memory_shards"] * found["engine"]["settings"]["memory_rows"]
    return growth <= 1.1, f"a worker's memory grows {growth:.2f}× over {rows:,} rows"

def own_memory(found):
    ours, seed = (found["training"]["memory"][name]["growth_megabytes"] for name in ("ours", "seed's loop"))
    return True, f"{ours / seed:.2f}× without Python and the libraries"

@dataclass
class Target:
    "A row of the table of targets"
    what: str
    against: str
    figure: Callable # found → spread or None
    at_least: float|None # None: there is only a stretch
    stretch: float|None # None: the stretch is the condition alone
    unit: str = "×"
    less_is_better: bool = False
    stretch_condition: str = "" # In words, behind the number of the stretch
    condition: Callable|None = None # found → (is it met?, what to add to the figure)

TARGETS = [
    Target("training step", "the seed's loop", times_faster("training", "seed's loop"), 4.9, 6.5),
    Target("", "Trainer as run_glue sets it (pad 128)", times_faster("training", "Trainer as run_glue sets it"), 10.5, 14),
    Target("", "Trainer, dynamic padding", times_faster("training", "Trainer, dynamic padding"), 1.75, 2.2),
    Target("", "Trainer, grouped by length", times_faster("training", "Trainer, grouped by length"), 1.08, 1.3),
    Target("training, share of the arithmetic limit", "this machine's matrix products for the real tokens", share_of_limit, .55, .80, unit="%"),
    Target("scoring, fp32, tokenization included", "pipeline, one at a time", times_faster("scoring", "pipeline, one at a time"), 6, 7.5),
    Target("", "pipeline, batch 32", times_faster("scoring", "pipeline, batch 32"), 1.9, 2.4),
    Target("", "the seed's loop", times_faster("scoring", "seed's loop"), 5, 6.3),
    Target("scoring, int8", "pipeline, batch 32", times_faster("scoring", "pipeline, batch 32", "int8 (another answer)"), None, 3.4,
           stretch_condition="with at most 1% of labels changed", condition=labels_changed),
    Target("tokenizing the training set", "the seed's two loops", times_faster("tokenization", "seed's two loops"), 8, 11),
    Target("peak memory, training", "the seed's loop", peak_memory, .8, .65, less_is_better=True, condition=own_memory),
    Target("first verdict of `cola predict`, model included", "pipeline in a script", times_faster("startup", "pipeline in a script"), None, None,
           stretch_condition="under 3 s", condition=seconds_to_start),
    Target("a checkpoint, hashed, forced and read back", "torch.save, nothing checked", times_faster("checkpoints", "torch.save, nothing checked"), None, None,
           stretch_condition="under 1.5 s, under 3% of a minute", condition=share_of_a_minute),
    Target("scoring a file, from CSV to CSV", "predict_logits in memory", times_faster("bulk", "predict_logits in memory"), .91, None,
           stretch_condition="at most 150 MB more for 100,000 sentences", condition=files_and_memory),
    Target("training in a process per core", "one process with as many threads", times_faster("processes", "one process"), .87, None,
           stretch_condition="the same losses within 1e-5", condition=same_losses),
    Target("scoring a folder with 2 workers of Ray", "one process with all cores", times_faster("engine", "one process"), 1, None,
           stretch_condition="a worker's memory flat over 1,000,000 rows", condition=workers_memory),
    Target("H200, BERT-base, 4 epochs of CoLA, bf16", "Trainer (dynamic padding) on the same GPU", times_faster("gpu", "Trainer, dynamic padding"), 4, None,
           stretch_condition="under 10 s in all", condition=seconds_in_all)]

def in_percent(values): return in_words({name: 100 * value for name, value in values.items()}, "%")

def row(target, found):
    "What, against what, our figure, at least, stretch, and whether it is met"
    show = lambda number: "" if number is None else f"{number:.0%}" if target.unit == "%" else f"{number:g}×"
    goals = [show(target.at_least) + " or less" * (target.less_is_better and target.at_least is not None) or "–", " ".join(filter(None, [show(target.stretch), target.stretch_condition]))]
    figure = target.figure(found)
    if figure is None: return [target.what, target.against, "", *goals, "not measured"]
    fulfilled, addition = target.condition(found) if target.condition else (True, "")
    reaches = lambda goal: goal is None or (figure["median"] <= goal if target.less_is_better else figure["median"] >= goal)
    verdict = "missed" if not reaches(target.at_least) else "met, stretch too" if reaches(target.stretch) and fulfilled else "met" if target.at_least or fulfilled and target.stretch is None else "missed"
    words = in_percent(figure) if target.unit == "%" else in_words(figure, "×")
    return [target.what, target.against, words + f"; {addition}" * bool(addition), *goals, verdict]

# --- the page ---

def machines(found):
    "A sentence for every machine that the figures came from"
    described = {}
    for name, one in found.items():
        facts = one["machine"]
        gpu = f", {facts['gpu']}" if name == "gpu" and facts["gpu"] else ""
        described.setdefault(f"{facts['processor']}, {facts['cores']} cores, {facts['instructions']}{gpu}, threads: {facts['threads']}, Python {facts['python']}, "
                             f"torch {facts['torch']}, transformers {facts['transformers']}", []).append(name)
    return [f"- {', '.join(names)}: {machine}" for machine, names in described.items()]

def page(size, found):
    "The text of results/README.md"
    warning = [] if size == "full" else [f"**A trial run (--{size}): these are not figures to quote.**"]
    header = ["", "against", "ours (median, smallest–largest)", "at least", "stretch", ""]
    return "\n\n".join(["# Side by side", *warning,
        "What this package takes beside what people would otherwise use: measured in turns, on one machine; what stands in one table was measured in one run. A figure is how many times as long the other one takes, "
        "as the median of its rounds, with the smallest and the largest where there were several; shares and memory say what they are.",
        table(header, [row(target, found) for target in TARGETS]).replace("---:", "---"),
        "How much is gained depends on how well the other one is set: Trainer stands here as it usually is set and as well as it can be. Measured on:", "\n".join(machines(found)),
        "To measure again: `make bench`, or `make bench quick=1` for a first glance.", *(markdown(one).strip() for one in found.values())]) + "\n"

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("benchmarks", nargs="*", help=f"which to run, of {', '.join(BENCHMARKS)}; default: all")
    for size in SIZES[1:]: parser.add_argument(f"--{size}", dest="size", action="store_const", const=size, default="full")
    parser.add_argument("--page", action="store_true", help="measure nothing, only write the page from what was found before")
    chosen = parser.parse_args()
    if unknown := set(chosen.benchmarks) - set(BENCHMARKS): parser.error(f"there is no benchmark {min(unknown)}; there are {', '.join(BENCHMARKS)}")
    failed, begun = [], time.perf_counter()
    for name in [] if chosen.page else chosen.benchmarks or BENCHMARKS:
        started, arguments = time.perf_counter(), [] if chosen.size == "full" else [f"--{chosen.size}"]
        if subprocess.run([sys.executable, str(Path(__file__).parent/f"{name}.py"), *arguments]).returncode: failed.append(name)
        print(f"({name}: {time.perf_counter() - started:.0f} s)\n", flush=True)
    folder = folder_of(chosen.size)
    found = {name: json.loads((folder/f"{name}.json").read_text(encoding="utf-8")) for name in BENCHMARKS if name not in failed and (folder/f"{name}.json").exists()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder/"README.md").write_text(page(chosen.size, found), encoding="utf-8")
    print(page(chosen.size, found).split("\n## ")[0])
    if not chosen.page: print(f"{time.perf_counter() - begun:.0f} s in all")
    if failed: sys.exit(f"failed: {', '.join(failed)}; their rows say not measured")

if __name__ == "__main__": main()
