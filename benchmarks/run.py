"""Runs all benchmarks: python benchmarks/run.py [--quick] [training scoring …]

Writes results/README.md, where the figures are beside the targets. Every benchmark runs in a
process of its own, so none inherits another's memory, and one that fails stops no other. About 10
minutes on 2 cores, with --quick less than 2, and on top of it bulk and engine, which score 100,000
sentences several times and a million once. Close other programs: the competitors suffer from them
together, but not equally.
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

BENCHMARKS = ("training", "base", "scoring", "tokenization", "limit", "growth", "startup",
              "checkpoints", "bulk", "processes", "engine", "gpu")

# --- figures: what the benchmarks found → a spread over the rounds, or None if not measured ---

def times_faster(benchmark, competitor, ours="ours"):
    "How many times as long the competitor took in the same round"
    def figure(found):
        if benchmark not in found or ours not in found[benchmark]["rounds"][0]: return None
        return spread(times[competitor] / times[ours] for times in found[benchmark]["rounds"])
    return figure

def of(benchmark, name):
    "A spread that the benchmark computed itself"
    return lambda found: found[benchmark][name] if benchmark in found else None

def peak_memory(found):
    "Our peak over that of the tutorial's loop, both of the whole process"
    memory = found.get("training", {}).get("memory")
    if not memory: return None
    ours, tutorial = memory["ours"], memory["tutorial's loop"]
    return spread([ours["peak_megabytes"] / tutorial["peak_megabytes"]])

def gpu_in_all(found):
    "How many times as long as each of our whole runs Trainer's whole run took"
    gpu = found.get("gpu", {})
    if not gpu.get("machine", {}).get("gpu") or "trainer_in_all" not in gpu: return None
    return spread(gpu["trainer_in_all"] / seconds for seconds in gpu["in_all"])

# --- conditions on the stretch beyond its number: is it met, and what to add to a figure ---

def median_of(found, benchmark):
    "The median of our time"
    return spread(times["ours"] for times in found[benchmark]["rounds"])["median"]

def labels_changed(name):
    "At most 1%, by a model that doesn't give almost all sentences the same label"
    def condition(found):
        scoring = found["scoring"]
        share = scoring["differences"][name]["labels_changed"]
        two_sided = .05 <= scoring["share_judged_acceptable"] <= .95
        return share <= .01 and two_sided, f"{share:.1%} of the labels changed"
    return condition

def seconds_in_all(found):
    seconds = spread(found["gpu"]["in_all"])["median"]
    return seconds < 10, f"{seconds:.1f} s in all on {found['gpu']['machine']['gpu']}"

def seconds_to_start(found):
    seconds = median_of(found, "startup")
    return seconds < .8, f"{seconds:.2f} s"

def faster_for_one(found):
    "ONNX in fp32, which gives the same answers"
    waits = found.get("scoring", {}).get("latency")
    return waits and spread([waits["pipeline"]["p50"] / waits["ours, ONNX fp32"]["p50"]])

def share_of_a_minute(found):
    seconds = median_of(found, "checkpoints")
    share = found["checkpoints"]["share_of_a_minute"]["median"]
    return seconds < 1.5 and share < .03, f"{seconds:.2f} s, {share:.1%} of a minute"

def files_and_memory(found):
    more, settings = found["bulk"]["more_megabytes"], found["bulk"]["settings"]
    return more <= 150, (f"{more} MB more for {settings['many']:,} sentences than for "
                         f"{settings['few']:,}")

def workers_memory(found):
    growth, settings = found["engine"]["memory_growth"], found["engine"]["settings"]
    rows = settings["memory_shards"] * settings["memory_rows"]
    return growth <= 1.1, f"a worker's memory grows {growth:.2f}× over {rows:,} rows"

def own_memory(found):
    ours, tutorial = (found["training"]["memory"][name]["growth_megabytes"]
                      for name in ("ours", "tutorial's loop"))
    return True, f"{ours / tutorial:.2f}× without Python and the libraries"

@dataclass
class Target:
    "A row of the table of targets"
    what: str
    against: str
    figure: Callable          # found → spread or None
    at_least: float | None    # None: there is only a stretch
    stretch: float | None     # None: the stretch is the condition alone
    unit: str = "×"
    less_is_better: bool = False
    stretch_condition: str = ""        # in words, behind the number of the stretch
    condition: Callable | None = None  # found → (is it met?, what to add to the figure)

    def show(self, number: float | None) -> str:
        "A goal, in words"
        if number is None: return ""
        return f"{number:.0%}" if self.unit == "%" else f"{number:g}×"

    def goals(self) -> list[str]:
        "The two cells of the table that say what is asked for"
        least = self.show(self.at_least) or "–"
        if self.less_is_better and self.at_least is not None: least += " or less"
        stretch = [self.show(self.stretch), self.stretch_condition]
        return [least, " ".join(filter(None, stretch))]

    def reaches(self, number: float, goal: float | None) -> bool:
        if goal is None: return True
        return number <= goal if self.less_is_better else number >= goal

    def verdict(self, number: float,   # the median
                fulfilled: bool,       # is the condition met?
               ) -> str:
        "no target, missed, met, or met with its stretch"
        if self.goals() == ["–", ""]: return "no target"
        if not self.reaches(number, self.at_least): return "missed"
        if self.reaches(number, self.stretch) and fulfilled: return "met, stretch too"
        return "met" if self.at_least else "missed"

    def row(self, found: dict) -> list[str]:
        "What, against what, our figure, at least, stretch, and whether it is met"
        figure = self.figure(found)
        if figure is None: return [self.what, self.against, "", *self.goals(), "not measured"]
        fulfilled, addition = self.condition(found) if self.condition else (True, "")
        scale = 100 if self.unit == "%" else 1
        words = in_words({name: scale * value for name, value in figure.items()}, self.unit)
        if addition: words += f"; {addition}"
        verdict = self.verdict(figure["median"], fulfilled)
        return [self.what, self.against, words, *self.goals(), verdict]

TARGETS = [
    Target("training step", "the tutorial's loop",
           times_faster("training", "tutorial's loop"), 4.9, 6.5),
    Target("", "Trainer as run_glue sets it (pad 128)",
           times_faster("training", "Trainer as run_glue sets it"), 10.5, 14),
    Target("", "Trainer, dynamic padding",
           times_faster("training", "Trainer, dynamic padding"), 1.75, 2.2),
    Target("", "Trainer, grouped by length",
           times_faster("training", "Trainer, grouped by length"), 1.08, 1.3),
    Target("training, share of the arithmetic limit",
           "this machine's matrix products for the real tokens",
           of("limit", "share_of_limit"), .55, .80, unit="%"),
    Target("training step of mpnet", "Trainer, grouped by length",
           times_faster("base", "Trainer, grouped by length"), 1.15, 1.4),
    Target("", "this machine's matrix products for the real tokens",
           of("base", "share_of_limit"), .75, .85, unit="%"),
    Target("checkpoints of mpnet, share of the time", "", of("base", "checkpoint_share"),
           .03, .01, unit="%", less_is_better=True),
    Target("scoring, fp32, tokenization included", "pipeline, one at a time",
           times_faster("scoring", "pipeline, one at a time"), 6, 7.5),
    Target("", "pipeline, batch 32", times_faster("scoring", "pipeline, batch 32"), 2.5, 2.7),
    Target("", "the tutorial's loop", times_faster("scoring", "tutorial's loop"), 5, 6.3),
    Target("scoring, int8", "pipeline, batch 32",
           times_faster("scoring", "pipeline, batch 32", "ours, ONNX int8"), 3.5, 5,
           stretch_condition="at most 1% of labels changed",
           condition=labels_changed("ours, ONNX int8")),
    Target("scoring, bf16", "pipeline, batch 32",
           times_faster("scoring", "pipeline, batch 32", "ours, bf16"), 3.5, 5,
           stretch_condition="at most 1% of labels changed",
           condition=labels_changed("ours, bf16")),
    Target("one sentence at a time, exported, p50", "pipeline", faster_for_one, 4, 8),
    Target("tokenizing the training set", "the tutorial's two loops",
           times_faster("tokenization", "tutorial's two loops"), 8, 11),
    Target("peak memory, training", "the tutorial's loop", peak_memory, .8, .65,
           less_is_better=True, condition=own_memory),
    Target("first verdict of `cola predict`, model included", "pipeline in a script",
           times_faster("startup", "pipeline in a script"), 4, 6,
           stretch_condition="under 0.8 s", condition=seconds_to_start),
    Target("a checkpoint, hashed, forced and read back", "torch.save, nothing checked",
           times_faster("checkpoints", "torch.save, nothing checked"), None, None,
           stretch_condition="under 1.5 s, under 3% of a minute", condition=share_of_a_minute),
    Target("scoring a file, from CSV to CSV", "predict_logits in memory",
           times_faster("bulk", "predict_logits in memory"), .91, None,
           stretch_condition="at most 150 MB more for 100,000 sentences",
           condition=files_and_memory),
    Target("training in a process per core", "one process with as many threads",
           times_faster("processes", "one process"), None, None),
    Target("scoring a folder with 2 workers of Ray", "one process with all cores",
           times_faster("engine", "one process"), 1, None,
           stretch_condition="a worker's memory flat over 1,000,000 rows",
           condition=workers_memory),
    Target("H100, BERT-base, 4 epochs of CoLA, bf16", "Trainer at its best on the same card",
           gpu_in_all, 4, None, stretch_condition="under 10 s in all", condition=seconds_in_all)]

# --- the page ---

INTRODUCTION = (
    "What this package takes beside what people would otherwise use: measured in turns, on one "
    "machine; the figures of one table were measured in one run. A figure is how many times as "
    "long the other one takes, as the median of its rounds, with the smallest and the largest "
    "where there were several; shares and memory say what they are.")
ELSEWHERE = "The same on other machines: "
MACHINES = ("How much is gained depends on how well the other one is set: Trainer is in the table "
            "as it usually is set and as well as it can be. Measured on:")

def machines(found):
    "A sentence for every machine that the figures came from"
    described = {}
    for name, one in found.items():
        facts = one["machine"]
        gpu = f", {facts['gpu']}" if name == "gpu" and facts["gpu"] else ""
        machine = (f"{facts['processor']}, {facts['cores']} cores, {facts['instructions']}{gpu}, "
                   f"threads: {facts['threads']}, Python {facts['python']}, torch "
                   f"{facts['torch']}, transformers {facts['transformers']}")
        described.setdefault(machine, []).append(name)
    return [f"- {', '.join(names)}: {machine}" for machine, names in described.items()]

def page(size, found):
    "The text of results/README.md"
    blocks = ["# Side by side"]
    if size != "full": blocks.append(f"**A trial run (--{size}): not figures to quote.**")
    header = ["", "against", "ours (median, smallest–largest)", "at least", "stretch", ""]
    targets = table(header, [target.row(found) for target in TARGETS]).replace("---:", "---")
    others = [f"[{path.stem}]({path.name})" for path in sorted(folder_of(size).glob("*_*.md"))]
    blocks += [INTRODUCTION, targets, MACHINES, "\n".join(machines(found)),
               *[ELSEWHERE + ", ".join(others) + "."][:len(others)],
               "To measure again: `make bench`, or `make bench quick=1` for a first glance."]
    return "\n\n".join([*blocks, *(markdown(one).strip() for one in found.values())]) + "\n"

def chosen():
    "What the command line asks for"
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("benchmarks", nargs="*",
                        help=f"which to run, of {', '.join(BENCHMARKS)}; default: all")
    for size in SIZES[1:]:
        parser.add_argument(f"--{size}", dest="size", action="store_const", const=size,
                            default="full")
    parser.add_argument("--page", action="store_true",
                        help="measure nothing, only write the page from what was found before")
    options = parser.parse_args()
    if unknown := set(options.benchmarks) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {min(unknown)}; there are {', '.join(BENCHMARKS)}")
    return options

def measure(names, size):
    "Run benchmarks; the names of those that failed"
    failed = []
    arguments = [] if size == "full" else [f"--{size}"]
    for name in names:
        started = time.perf_counter()
        script = Path(__file__).parent/f"{name}.py"
        if subprocess.run([sys.executable, str(script), *arguments]).returncode: failed.append(name)
        print(f"({name}: {time.perf_counter() - started:.0f} s)\n", flush=True)
    return failed

def main():
    options, started = chosen(), time.perf_counter()
    names = [] if options.page else options.benchmarks or BENCHMARKS
    failed = measure(names, options.size)
    folder = folder_of(options.size)
    files = {name: folder/f"{name}.json" for name in BENCHMARKS if name not in failed}
    found = {name: json.loads(file.read_text(encoding="utf-8"))
             for name, file in files.items() if file.exists()}
    folder.mkdir(parents=True, exist_ok=True)
    text = page(options.size, found)
    (folder/"README.md").write_text(text, encoding="utf-8")
    print(text.split("\n## ")[0])
    if names: print(f"{time.perf_counter() - started:.0f} s in all")
    if failed: sys.exit(f"failed: {', '.join(failed)}; their rows say not measured")

if __name__ == "__main__": main()
