"""Competitors side by side: what every benchmark of this folder shares.

**Time.** The competitors run in turns, A B C A B C, so that a machine that slows down slows down
for all of them. Each runs once before the first round, uncounted. What is reported is a ratio: in
each round every competitor's time is divided by ours of the *same* round, and of these ratios the
median, the smallest and the largest are given. Such a ratio means the same on another machine; a
number of seconds does not.

**Memory.** Every competitor's peak is measured in a process of its own, because a process hardly
ever gives memory back. Two figures: the *peak* of the whole process, Python and libraries
included, which is what must fit into the machine; and its *growth* over what the process held when
the competitor was about to start, libraries imported and sentences read: its own share. Where
training is measured, each competitor loads its model itself, so the model is in the growth.
"""
import argparse
import contextlib
import json
import os
import platform
import re
import resource
import statistics
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

# Before anything imports transformers, which reads these once: no bars, no advice, no network
os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
warnings.filterwarnings("ignore", message=".*pin_memory.*")  # Trainer asks for it on a CPU too

LOAD_BEFORE = round(os.getloadavg()[0], 1)  # of the machine, before we add ours
RESULTS = Path(__file__).parent/"results"
SIZES = ("full", "quick", "tiny")

def stay_on_the_processor():
    """Hide accelerators; call it before the first tensor

    The targets are for a CPU, and Trainer would otherwise move to a GPU by itself."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}

def chosen_size() -> str:
    "full, quick or tiny, as the command line says"
    description = (sys.modules["__main__"].__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", default="full",
                        help="one round of less work: a first glance, not a figure to quote")
    parser.add_argument("--tiny", dest="size", action="store_const", const="tiny",
                        help="hardly any work: only to see that the benchmark runs")
    return parser.parse_args().size

def corpus():
    """Real CoLA where COLA_NBDEV_DATA says where it is, else the demo corpus

    A benchmark never downloads."""
    from cola_nbdev.data import load_corpus
    return load_corpus("cola" if os.environ.get("COLA_NBDEV_DATA") else "demo")

def corpus_in_words() -> str:
    "What the sentences are, for a caption"
    return {"cola": "CoLA", "demo": "the demo corpus"}[corpus().name]

# --- time ---

def interleave(competitors: dict,  # name → function that returns the time of one unit of work
               rounds: int,        # how often each is measured
               warm_up: dict | None = None,  # name → function called once before; None: competitors
              ) -> list[dict]:     # name → time, one dictionary per round
    "Measure in turns, A B C A B C"
    for competitor in (warm_up or competitors).values(): competitor()
    measured = []
    for number in range(1, rounds + 1):
        times = {name: competitor() for name, competitor in competitors.items()}
        measured.append(times)
        told = ", ".join(f"{name} {time:.4g}" for name, time in times.items())
        print(f"  round {number} of {rounds}: {told}", flush=True)
    return measured

def spread(values) -> dict:  # any number of numbers
    "Median, smallest and largest"
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}

def ratios(measured: list[dict],  # from `interleave`
           ours: str = "ours",    # the competitor that the others are compared with
          ) -> dict:
    "Name → spread of its time over ours of the same round: above 1, we are faster"
    return {name: spread(times[name] / times[ours] for times in measured) for name in measured[0]}

# --- memory ---

def memory_now() -> float:
    "Resident megabytes of this process"
    statm = Path("/proc/self/statm")
    if not statm.exists(): return peak_memory()  # not Linux: the peak up to now comes close
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6

def peak_memory() -> float:
    "The most that was resident, in megabytes, since the process began or since `forget_peak`"
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(line for line in status if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

def forget_peak():
    """Start the peak over

    ru_maxrss can't do that, and on Linux a child even inherits its parent's: hence VmHWM."""
    with contextlib.suppress(OSError): Path("/proc/self/clear_refs").write_text("5")

def _memory(make_competitors, settings, name):
    competitor = make_competitors(settings)[name]
    forget_peak()
    before = memory_now()
    competitor()
    return {"peak_megabytes": round(peak_memory()),
            "growth_megabytes": round(peak_memory() - before)}

def memory(make_competitors,  # function of a script: settings → competitors, as for `interleave`
           settings: dict,    # what it gets
           names: list | None = None,  # which competitors; None: all
          ) -> dict:
    "Name → peak memory of the competitor, each in a process of its own"
    found = {}
    for name in make_competitors(settings) if names is None else names:
        # spawned: a forked process would hold its parent's memory
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found[name] = process.submit(_memory, make_competitors, settings, name).result()
        print(f"  memory: {name} {found[name]['peak_megabytes']} MB, "
              f"of which its own {found[name]['growth_megabytes']} MB", flush=True)
    return found

# --- results ---

def _processor():
    "The name of the CPU"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).split(": ", 1)[1]
    except (OSError, StopIteration): return platform.processor() or platform.machine()

def short_numbers():
    "What the processor has for numbers of 16 and 8 bits, where Linux says it"
    try: flags = Path("/proc/cpuinfo").read_text().split()
    except OSError: return []
    known = re.compile(r"amx_\w+|avx512_bf16|avx\w*_vnni")
    return sorted({each for each in flags if known.fullmatch(each)})

def machine() -> dict:
    "What a reader must know of the machine; nothing that says whose it is"
    import torch
    usable = os.cpu_count()
    if hasattr(os, "sched_getaffinity"): usable = len(os.sched_getaffinity(0))
    libraries = ("torch", "transformers", "tokenizers", "accelerate", "cola_nbdev")
    return {"processor": _processor(), "cores": usable,
            "instructions": " ".join([torch.backends.cpu.get_cpu_capability(), *short_numbers()]),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "load_before": LOAD_BEFORE, "python": platform.python_version(),
            **{name: version(name) for name in libraries}}

def result(name: str,  # of the benchmark: the stem of its script
           size: str,  # full, quick or tiny
           **content,  # whatever it found; `notes` are sentences that go below the table
          ) -> dict:
    "Write <name>.json and <name>.md into the folder of the size, and print the table"
    found = {"name": name, "size": size, "machine": machine(), **content}
    folder = folder_of(size)
    folder.mkdir(parents=True, exist_ok=True)
    (folder/f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder/f"{name}.md").write_text(markdown(found), encoding="utf-8")
    print("\n" + markdown(found), flush=True)
    return found

def folder_of(size: str) -> Path:
    "Where the results of a size are: a trial never overwrites figures that were measured with care"
    return RESULTS if size == "full" else RESULTS/size

def digits(number: float) -> str:
    "Three digits that count"
    if number >= 1000: return f"{number:,.0f}"
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"

def in_words(values: dict,    # from `spread`
             unit: str = "",  # follows the median
            ) -> str:
    "1.23× (1.20–1.31)"
    median = f"{digits(values['median'])}{unit}"
    if values["min"] == values["max"]: return median
    return f"{median} ({digits(values['min'])}–{digits(values['max'])})"

def table(header: list, rows: list) -> str:
    "A table in Markdown; the first column is text, the others are numbers"
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

def markdown(found: dict) -> str:
    "What a benchmark found, as a section of a page"
    blocks = [f"## {found['title']}", found["question"]]
    if "rounds" in found:
        count = len(found["rounds"])
        plural = "s" if count > 1 else ""
        blocks += [table_of_rounds(found), f"Median (smallest–largest) of {count} round{plural}."]
    blocks += found.get("tables", [])
    if found.get("notes"): blocks.append("\n".join(f"- {note}" for note in found["notes"]))
    return "\n\n".join(blocks) + "\n"

def table_of_rounds(found: dict) -> str:
    "One row per competitor: its time, its time over ours, its memory where that was measured"
    header, rows = ["", found["unit"], "times ours"], []
    for name, ratio in ratios(found["rounds"]).items():
        times = spread(one[name] for one in found["rounds"])
        rows.append([name, in_words(times), "1" if name == "ours" else in_words(ratio, "×")])
    if "memory" in found:
        header += ["peak memory (MB)", "of which its own (MB)"]
        for row in rows:
            measured = found["memory"].get(row[0])
            if measured:
                row += [f"{measured['peak_megabytes']:,}", f"{measured['growth_megabytes']:,}"]
            else: row += ["", ""]
    return table(header, rows)
