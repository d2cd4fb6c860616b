"""How long, and for how much? A plan on paper for a billion sentences and a thousand trainings: python benchmarks/scale.py [--quick]

What one process costs is measured here: to start, to read and write a row, to tokenize it, to judge it. A simulation (SimPy) puts many of them together: workers that take shards in turn, cores and a disk that
they share, shards that take longer than others, machines that die. It is checked first against what can be measured here, 1, 2 and 4 processes on this machine. What a GPU would do was not measured:
those figures follow from assumptions that stand in ASSUMED, each on its own line, to be changed.
"""
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import side_by_side

side_by_side.stay_on_the_processor()

import simpy

import bulk

SETTINGS = { # shards that are really scored, their rows, how often
    "full": {"model": "minilm", "shards": 16, "rows": 1_000, "rounds": 2, "most": 2_000},
    "quick": {"model": "minilm", "shards": 4, "rows": 300, "rounds": 1, "most": 300},
    "tiny": {"model": "tiny", "shards": 4, "rows": 20, "rounds": 1, "most": 50}}
PROCESSES = (1, 2, 4)

ASSUMED = { # none of this was measured here
    "gpu_flops": 400e12,        # per second that a large GPU can do in bf16, on paper
    "gpu_share": .2,            # of them that short sentences use
    "flops_per_piece": 2 * 10.6e6, # of minilm's forward pass: twice its numbers outside the embeddings
    "pieces_per_sentence": 11,  # of CoLA
    "cores": 16,                # of a machine that one rents
    "price_of_core": .05,       # dollars an hour
    "price_of_gpu": 3.,         # dollars an hour, its machine included
    "storage_megabytes": 1000., # per second that all machines together can read and write
    "row_bytes": 120,           # of a row, in and out together
    "spread": .15,              # of the time that shards take, log-normal: neighbours, throttling
    "deaths_per_hour": .01}     # of a machine

@dataclass(frozen=True)
class Plan:
    "What is simulated"
    rows: int              # In all
    rows_of_shard: int     # Scored in one go; what is lost when a machine dies
    workers: int           # Processes in all
    workers_of_machine: int
    cores_of_machine: int
    start: float           # Seconds of one core until a process can score
    read_write: float      # Seconds of one core per row
    tokenize: float        # Seconds of one core per row
    forward: float         # Seconds per row: of one core, or of the GPU
    on_gpu: bool = False   # The forward pass leaves the cores alone, and the workers of a machine share the GPU
    storage: float = math.inf # Bytes per second, of all together
    row_bytes: float = 0
    spread: float = 0
    deaths_per_hour: float = 0
    price_per_hour: float = 0 # Of a machine

# --- the simulation ---

def simulate(plan, seed=0):
    "Hours, money, and where the time of the workers goes"
    generator, world = random.Random(seed), simpy.Environment()
    shards = simpy.Store(world)
    count = math.ceil(plan.rows / plan.rows_of_shard)
    for number in range(count): shards.put(min(plan.rows_of_shard, plan.rows - number * plan.rows_of_shard))
    machines = math.ceil(plan.workers / plan.workers_of_machine)
    slowed = max(1., plan.workers_of_machine / plan.cores_of_machine) # more processes than cores share them
    gpus = [simpy.Resource(world) for _ in range(machines)] if plan.on_gpu else None
    link_free, spent, died, finished = [0.], dict.fromkeys(("start", "read and write", "tokenize", "forward", "wait for storage", "wait for the GPU", "lost"), 0.), [0], []

    def work(kind, seconds):
        spent[kind] += seconds
        return world.timeout(seconds)

    def score(rows, machine, luck):
        "One shard: through the storage, the reader, the tokenizer, the network"
        moved = rows * plan.row_bytes / plan.storage
        link_free[0] = max(link_free[0], world.now) + moved
        steps = {"wait for storage": link_free[0] - world.now, "read and write": rows * plan.read_write * slowed * luck, "tokenize": rows * plan.tokenize * slowed * luck}
        if gpus is None: steps["forward"] = rows * plan.forward * slowed * luck
        for kind, seconds in steps.items(): spent[kind] += seconds
        yield world.timeout(sum(steps.values()))
        if gpus is None: return
        asked = world.now
        with gpus[machine].request() as turn:
            yield turn
            spent["wait for the GPU"] += world.now - asked
            yield work("forward", rows * plan.forward * luck)

    def worker(number):
        machine = number // plan.workers_of_machine
        yield work("start", plan.start * slowed)
        while shards.items:
            rows = yield shards.get()
            done = False
            while not done:
                luck = math.exp(generator.gauss(0, plan.spread)) if plan.spread else 1.
                needed = rows * (plan.read_write + plan.tokenize + plan.forward) * slowed * luck / 3600
                if plan.deaths_per_hour and generator.random() < 1 - math.exp(-plan.deaths_per_hour * needed): # it dies somewhere in the middle, and starts anew
                    died[0] += 1
                    yield work("lost", generator.random() * needed * 3600)
                    yield work("start", plan.start * slowed)
                else:
                    yield from score(rows, machine, luck)
                    done = True
        finished.append(world.now)

    for number in range(min(plan.workers, count)): world.process(worker(number))
    world.run()
    seconds = max(finished)
    idle = sum(seconds - end for end in finished) + seconds * max(0, plan.workers - count)
    whole = sum(spent.values()) + idle
    return {"seconds": seconds, "machines": machines, "machine_hours": seconds * machines / 3600, "money": seconds * machines / 3600 * plan.price_per_hour, "died": died[0],
            "shares": {**{kind: value / whole for kind, value in spent.items()}, "wait for the last": idle / whole}}

def bottleneck(found):
    "What takes the largest part of the workers' time"
    kind, share = max(found["shares"].items(), key=lambda item: item[1])
    return f"{kind} {share:.0%}"

# --- what is measured ---

def worker(folder, number, of):
    "A process that scores every `of`-th shard; prints when it was ready and what its parts took"
    import torch
    from cola_nbdev.prediction import Judge
    torch.set_num_threads(1)
    judge = Judge(Path(folder)/"model")
    ready = time.time()
    for path in sorted(Path(folder).glob("shard *.csv"))[number::of]: bulk.score_to(judge, path, path.with_name(f"scored {path.name}"))
    print(json.dumps({"ready": ready, "done": time.time()}))

def run(folder, of, nothing=False):
    "Seconds until all shards are scored by so many processes, and the mean seconds until they were ready"
    started = time.time()
    processes = [subprocess.Popen([sys.executable, __file__, "--worker", str(folder), str(10**6 if nothing else number), str(of)], stdout=subprocess.PIPE, text=True) for number in range(of)]
    said = [json.loads(process.communicate()[0].strip().splitlines()[-1]) for process in processes]
    return time.time() - started, sum(one["ready"] for one in said) / of - started

def parts(folder, rows):
    "Seconds of one core per row: to read and write, to tokenize"
    from cola_nbdev.scoring import read_rows
    from cola_nbdev.tokenization import encode,load_tokenizer
    path, sentences = next(Path(folder).glob("shard *.csv")), bulk.numbered(rows)
    started = time.perf_counter()
    with open(path, "rb") as file:
        _, found = read_rows(file, "csv", path.name)
        kept = [row for _, row in found]
    path.with_name("copy.txt").write_text("\n".join(map(json.dumps, kept)))
    reading = (time.perf_counter() - started) / len(kept)
    tokenizer = load_tokenizer("minilm")
    encode(sentences[:50], tokenizer, 64)
    started = time.perf_counter()
    encode(sentences, tokenizer, 64)
    return reading, (time.perf_counter() - started) / rows

def measure(settings):
    "What one process costs, and what 1, 2 and 4 really took"
    Path("runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="runs") as temporary:
        folder = Path(temporary).resolve()
        bulk.saved(settings["model"], folder)
        for number in range(settings["shards"]): bulk.write(folder/f"shard {number:02}.csv", settings["rows"])
        run(folder, 1, nothing=True) # once for the system's cache
        reading, tokenizing = parts(folder, settings["most"])
        rounds = []
        for number in range(settings["rounds"]):
            rounds.append({f"{of} process{'es' * (of > 1)}": run(folder, of) for of in PROCESSES})
            print("  " + ", ".join(f"{name} {seconds:.1f} s (ready after {ready:.1f})" for name, (seconds, ready) in rounds[-1].items()), flush=True)
    return reading, tokenizing, rounds

def checked(settings, reading, tokenizing, rounds, cores):
    "Rows of the table of measured against simulated; and the plan of one process"
    one = [each["1 process"] for each in rounds]
    start = side_by_side.spread(ready for _, ready in one)["median"]
    rows = settings["shards"] * settings["rows"]
    whole = side_by_side.spread(seconds for seconds, _ in one)["median"] - start
    plan = Plan(rows=rows, rows_of_shard=settings["rows"], workers=1, workers_of_machine=1, cores_of_machine=cores, start=start, read_write=reading, tokenize=tokenizing, forward=max(whole / rows - reading - tokenizing, 1e-9))
    lines = []
    for of in PROCESSES:
        found = side_by_side.spread(each[f"{of} process{'es' * (of > 1)}"][0] for each in rounds)
        said = simulate(replace(plan, workers=of, workers_of_machine=of))["seconds"]
        lines.append({"processes": of, "measured": found, "simulated": said, "error": said / found["median"] - 1})
    return plan, lines

# --- the plans ---

def plans(one):
    "(what, plan): a million, a billion, a trillion sentences on rented machines, with and without a GPU"
    core, gpu = ASSUMED["price_of_core"] * ASSUMED["cores"], ASSUMED["price_of_gpu"]
    shared = dict(storage=ASSUMED["storage_megabytes"] * 1e6, row_bytes=ASSUMED["row_bytes"], spread=ASSUMED["spread"], deaths_per_hour=ASSUMED["deaths_per_hour"], cores_of_machine=ASSUMED["cores"])
    fast = ASSUMED["flops_per_piece"] * ASSUMED["pieces_per_sentence"] / (ASSUMED["gpu_flops"] * ASSUMED["gpu_share"])
    for rows, shard, machines in ((10**6, 10**4, (1, 4)), (10**9, 10**5, (1, 100)), (10**12, 10**7, (100, 1000))): # what is scored in one go is what a death costs
        for count in machines:
            for on_gpu in (False, True):
                workers = ASSUMED["cores"]
                yield {"sentences": rows, "machines": count, "kind": f"1 GPU, {workers} cores" if on_gpu else f"{workers} cores"}, replace(one, rows=rows, rows_of_shard=shard, workers=count * workers, workers_of_machine=workers,
                    forward=fast if on_gpu else one.forward, on_gpu=on_gpu, price_per_hour=gpu if on_gpu else core, **shared)

def sweeps():
    "(what, plan): a thousand trainings, one process each; a `row` is a training"
    results = {name: json.loads((side_by_side.RESULTS/f"{name}.json").read_text(encoding="utf-8")) for name in ("limit", "checkpoints", "startup") if (side_by_side.RESULTS/f"{name}.json").exists()}
    if len(results) < 3: return
    ours = lambda name: side_by_side.spread(each["ours"] for each in results[name]["rounds"])["median"]
    step, checkpoint, start = ours("limit") / 1000, ours("checkpoints"), ours("startup")
    steps = math.ceil(8551 * .9 / 32) * 4
    core, cores = ASSUMED["price_of_core"], ASSUMED["cores"]
    training = 2 * steps * step # measured with two threads: on one core twice as long
    training += checkpoint * (4 + training / 60)
    for machines in (1, 10, 60):
        yield {"trainings": 1000, "machines": machines, "kind": f"{cores} cores"}, Plan(rows=1000, rows_of_shard=1, workers=machines * cores, workers_of_machine=cores, cores_of_machine=cores, start=start, read_write=0, tokenize=0,
            forward=training, spread=ASSUMED["spread"], deaths_per_hour=ASSUMED["deaths_per_hour"], price_per_hour=core * cores)

def hours(seconds):
    "Seconds in the unit that one would say them in"
    for size, unit in ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size: return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} seconds"

def table_of(kind, found):
    rows = [[f"{what[kind]:,}", what["kind"], f"{what['machines']:,}", hours(one["seconds"]), f"{one['machine_hours']:,.1f}", f"{one['money']:,.2f}" if one["money"] < 100 else f"{one['money']:,.0f}", f"{one['died']:,}", bottleneck(one)] for what, one in found]
    return side_by_side.table([kind, "a machine", "machines", "time", "machine hours", "dollars", "deaths", "most of the workers' time"], rows)

PAGE, BEGIN, END = Path(__file__).parent.parent/"docs/scale.md", "<!-- begin: written by benchmarks/scale.py -->", "<!-- end -->"

def write_page(tables):
    "Put the tables into docs/scale.md, between its two marks"
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")

def main():
    if sys.argv[1:2] == ["--worker"]: return worker(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    size = side_by_side.chosen_size()
    settings = SETTINGS[size]
    print(f"Scale, {size}: {settings['shards']} shards of {settings['rows']:,} sentences, {settings['rounds']} rounds", flush=True)
    reading, tokenizing, rounds = measure(settings)
    one, lines = checked(settings, reading, tokenizing, rounds, side_by_side.machine()["cores"])
    scored, trained = [(what, simulate(plan)) for what, plan in plans(one)], [(what, simulate(plan)) for what, plan in sweeps()]
    costs = {"start (s)": one.start, "read and write (µs a row)": one.read_write * 1e6, "tokenize (µs a row)": one.tokenize * 1e6, "forward (µs a row)": one.forward * 1e6}
    check = side_by_side.table(["processes", "measured (s)", "simulated (s)", "error"], [[line["processes"], side_by_side.in_words(line["measured"]), f"{line['simulated']:.1f}", f"{line['error']:+.0%}"] for line in lines])
    tables = [side_by_side.table(["what one process costs", "measured"], [[name, f"{value:.3g}"] for name, value in costs.items()]), check, table_of("sentences", scored)]
    if trained: tables.append(table_of("trainings", trained))
    side_by_side.result("scale", size, title="Scale", settings=settings, costs=costs, checked=lines, assumed=ASSUMED, scored=[{**what, **found} for what, found in scored], trained=[{**what, **found} for what, found in trained],
        question="How long would it take on many machines, and for how much? One process measured, many simulated.", tables=tables,
        notes=["The simulation knows the figures of one process only. The rest of the second table is a check of it.", "Everything about rented machines follows from ASSUMED in benchmarks/scale.py; no GPU was measured."])
    if size == "full": write_page("\n\n".join(tables))

if __name__ == "__main__": main()
