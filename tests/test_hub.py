"""Models by Hub id, from a small Hub on this machine: what is fetched, what is not, and what an unreachable Hub says."""
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cola_nbdev.data import load_corpus
from cola_nbdev.prediction import save_judge
from cola_nbdev.settings import Config
from cola_nbdev.training import train

ROOT = Path(__file__).resolve().parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"

@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    "The address of a Hub with one model, someone/judge, and the list of the files that were asked for"
    folder, asked = tmp_path_factory.mktemp("hub"), []
    save_judge(train(load_corpus("demo").train[:100], Config(model="tiny", epochs=1), progress=False), folder/"model")
    (folder/"model/pytorch_model.bin").write_bytes(b"a pickle")
    (folder/"model/modeling_judge.py").write_text("raise SystemExit('code of a model was run')")
    files = {path.name: path.read_bytes() for path in (folder/"model").iterdir()}

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self, body=True):
            name = self.path.split("?")[0].rsplit("/", 1)[-1]
            if self.path.startswith("/api/models/someone/judge"):
                content = json.dumps({"id": "someone/judge", "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}).encode()
                if "/tree/" in self.path: content = json.dumps([{"type": "file", "path": file, "size": len(files[file]), "oid": hashlib.sha1(files[file]).hexdigest()} for file in files]).encode()
            elif self.path.startswith("/someone/judge/resolve/") and name in files:
                asked.append(name)
                content = files[name]
            else: return self.send_error(404)
            self.send_response(200)
            for header, value in {"Content-Length": len(content), "ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Content-Type": "application/json"}.items():
                self.send_header(header, str(value))
            self.end_headers()
            if body: self.wfile.write(content)
        def do_HEAD(self): self.do_GET(body=False)
        def log_message(self, *arguments): pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()

def cola(*arguments, cwd, hub):
    "The command in a process of its own: the Hub's address is read when huggingface_hub is imported"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub, "HF_HOME": str(cwd/"cache"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run([sys.executable, "-c", "from cola_nbdev.cli import main; main()", *arguments], cwd=cwd, env=environment, text=True, capture_output=True)

def test_a_model_from_the_hub_is_fetched_once_without_code_or_pickles(hub, tmp_path):
    address, asked = hub
    first = cola("predict", "someone/judge", "He left.", cwd=tmp_path, hub=address)
    assert first.returncode == 0, first.stderr
    assert "He left." in first.stdout
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(asked)
    assert not {"pytorch_model.bin", "modeling_judge.py"} & set(asked)
    asked.clear()
    again = cola("predict", "someone/judge", "He left.", cwd=tmp_path, hub="http://127.0.0.1:9") # nobody answers there
    assert again.stdout == first.stdout and not asked

@pytest.mark.parametrize("name, address", [("someone/else", None), ("someone/judge", "http://127.0.0.1:9")], ids=["unknown", "unreachable"])
def test_a_model_that_cannot_be_had_is_one_line(hub, tmp_path, name, address):
    done = cola("predict", name, "He left.", cwd=tmp_path, hub=address or hub[0])
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"cola: cannot load the model '{name}': say minilm, bert, tiny, a Hub id, or a folder")
