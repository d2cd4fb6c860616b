"""The judge in the page: that of `make demo`, with rounded weights, packed for a browser.

Only weights are rounded: to 8 bits, with a factor for each row. int8 of `cola export` rounds what
flows between them too, which turns many more verdicts of so small a model.
"""
import gzip
import json
import shutil
import subprocess

import numpy as np
import onnx
from readme import ROOT

RUNTIME, WORK = ROOT/"docs/node_modules/onnxruntime-web/dist", ROOT/"_proc/judge"
FILES = {"runtime": RUNTIME/"ort-wasm-simd-threaded.wasm", "tokenizer": WORK/"model/tokenizer.json",
         "model": WORK/"model/onnx/model_int8.onnx"}

def round_weights(graph):
    "The factors are multiplied when the model is loaded: it computes with numbers of 32 bits"
    for one in list(graph.initializer):
        weights = onnx.numpy_helper.to_array(one)
        if weights.ndim != 2 or weights.size < 10_000: continue
        factor = np.maximum(abs(weights).max(axis=1, keepdims=True), 1e-9) / 127
        names = [f"{one.name}_{part}" for part in ("whole", "factor", "float")]
        parts = zip((np.rint(weights / factor).astype(np.int8), factor), names, strict=False)
        graph.initializer.remove(one)
        graph.initializer.extend(onnx.numpy_helper.from_array(*part) for part in parts)
        graph.node.insert(0, onnx.helper.make_node("Mul", names[1:], [one.name]))
        graph.node.insert(0, onnx.helper.make_node("Cast", names[:1], names[2:], to=1))

def export(corpus):
    "Train, unless `make demo` has; returns how good the judge is and what the rounding changes"
    from cola_nbdev.basics import ONNX_RECORD, file_sha256
    from cola_nbdev.export import write_onnx
    from cola_nbdev.prediction import Config, Judge, fine_tune, predict_splits
    demo, model = ROOT/"runs/demo", WORK/"model"
    run = demo if (demo/"metrics.json").exists() else WORK/"run"
    fine_tune(corpus, Config(), run, resume=True, progress=False)
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(run/"model", model, ignore=shutil.ignore_patterns("onnx"))
    exact = Judge(model)
    rounded = onnx.load(write_onnx(exact.model, exact.tokenizer, model)[0])
    round_weights(rounded.graph)
    onnx.save(rounded, FILES["model"])
    record = FILES["model"].with_name(ONNX_RECORD)
    known = json.loads(record.read_text())
    known["files"][FILES["model"].name] = file_sha256(FILES["model"])
    record.write_text(json.dumps(known))
    before, after = (predict_splits(judge.model, judge.tokenizer, corpus.dev, 64, progress=False)
                     for judge in (exact, Judge(model, onnx="int8")))
    return {"judge_accuracy": f"{(after.predicted == after.label).mean():.0%}",
            "judge_sentences": len(after),
            "judge_turned": int((before.predicted != after.predicted).sum())}

def pack(site):
    "Write site/judge; returns what the page says of it, or nothing if it can't be made here"
    from cola_nbdev.data import ColaError, load_corpus
    known, folder = WORK/"facts.json", site/"judge"
    try:
        if not RUNTIME.exists():
            subprocess.check_call(["npm", "ci", "--silent", "--ignore-scripts"], cwd=ROOT/"docs")
        if not known.exists(): known.write_text(json.dumps(export(load_corpus("demo"))))
    except (ColaError, OSError, subprocess.CalledProcessError) as error:
        return print(f"The site has no judge in the page: {error}")
    folder.mkdir(parents=True)
    for name, path in FILES.items():
        (folder/f"{name}.bin").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    size = sum(path.stat().st_size for path in folder.iterdir())
    shutil.copy(RUNTIME/"ort.wasm.bundle.min.mjs", folder/"runtime.mjs")
    vocabulary = (folder/"tokenizer.bin").stat().st_size
    return json.loads(known.read_text()) | {"judge_bytes": size, "vocabulary_bytes": vocabulary}
