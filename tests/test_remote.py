"""`cola score --engine` between buckets of a server that speaks S3 and asks for keys."""


import functools
import http.server
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest
from test_bad_input import refused
from test_engine import (  # noqa: F401, a fixture
    ROOT,
    needs_ray,
    one_thread,
    results,
    score,
    write_shards,
)

from cola_nbdev.basics import ColaError
from cola_nbdev.engine import Folder

server = pytest.importorskip(
    "moto.server", reason='moto is not installed: pip install "cola_nbdev[servers]"'
)
s3fs = pytest.importorskip(
    "s3fs", reason='s3fs is not installed: pip install "cola_nbdev[servers]"'
)
pytestmark = [pytest.mark.xdist_group("engine"), pytest.mark.long]  # one Ray at a time


@pytest.fixture(scope="module")
def keys():
    "A server of S3 with the bucket `bucket`, and who may do what there: the environment of each"
    import boto3
    import requests

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    address = "http://{}:{}".format(*running.get_host_and_port())
    admin = functools.partial(
        boto3.client,
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    admin("s3").create_bucket(Bucket="bucket")
    users = admin("iam")

    def key(user, actions, resources):
        users.create_user(UserName=user)
        users.put_user_policy(
            UserName=user,
            PolicyName="may",
            PolicyDocument=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resources}],
                }
            ),
        )
        made = users.create_access_key(UserName=user)["AccessKey"]
        return {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
        }

    found = {
        "ana": key(
            "ana",
            ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
        ),
        "root": key("root", ["s3:*"], ["*"]),
        "reader": key(
            "reader",
            ["s3:ListBucket", "s3:GetObject"],
            ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
        ),
    }
    requests.post(
        f"{address}/moto-api/reset-auth", data="0", timeout=10
    ).raise_for_status()  # from here on every request needs a key
    yield found | {
        "stranger": {**found["ana"], "AWS_ACCESS_KEY_ID": "AKIANOBODY"},
        "nobody": {"AWS_ENDPOINT_URL": address},
        "elsewhere": {
            **found["ana"],
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "AWS_MAX_ATTEMPTS": "1",
        },
    }
    running.stop()


@pytest.fixture(scope="module")
def become(keys):
    "Act as one of them, in this process and in those that it starts"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")

        def change(user):
            for name in (
                "AWS_ENDPOINT_URL",
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_MAX_ATTEMPTS",
            ):
                patch.delenv(name, raising=False)
            for name, value in keys[user].items():
                patch.setenv(name, value)
            s3fs.S3FileSystem.clear_instance_cache()  # one that is known keeps its key

        change("ana")
        yield change
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def ana(become):
    "Who may read and write in the bucket, and nothing else"
    become("ana")
    yield
    become("ana")


@pytest.fixture(scope="module")
def local_ray(become):
    "Ray with two workers, which find the keys in the environment"
    pytest.importorskip("ray")
    from cola_nbdev.engine import start_ray

    yield start_ray(2)
    import ray

    ray.shutdown()


def upload(folder, address):
    there = Folder(address)
    for path in folder.rglob("*"):
        if path.is_file():
            there.put(path.relative_to(folder).as_posix(), path.read_bytes())


def download(address):
    "The results there by their names, as a process sees them that knows nothing yet"
    s3fs.S3FileSystem.clear_instance_cache()
    there = Folder(address)
    return {name: there.cat_file(name) for name in there.files()}


@pytest.fixture(scope="module")
def shards(tmp_path_factory, model):
    "A folder of shards, one in a subfolder, one with a broken row; and what comes of it here"
    folder = tmp_path_factory.mktemp("shards")
    source = write_shards(folder / "in", 4, 60)
    (source / "2024").mkdir()
    (source / "part-003.csv").rename(source / "2024" / "more.csv")
    with open(source / "part-001.jsonl", "a") as file:
        file.write('{"sentence": 7}\n')
    return source, score(model, source, folder / "out"), results(folder / "out")


@pytest.mark.parametrize("engine", ["process", pytest.param("ray", marks=needs_ray)])
def test_from_bucket_to_bucket_is_what_it_is_on_this_machine(
    model, shards, ana, request, tried, engine
):
    if engine == "ray":
        request.getfixturevalue("local_ray")
    source, expected, made = shards
    there, out = f"s3://bucket/{engine}/in", f"s3://bucket/{engine}/out"
    upload(source, there)
    go = lambda: score(model, there, out, engine=engine, workers=2 if engine == "ray" else None)
    assert (
        go()
        == expected
        == {"shards": 4, "earlier": 0, "rows": 240, "empty": 0, "truncated": 0, "aside": 1,
            "taken": []}
    )
    assert download(out) == made and len(made) == 4  # to the last byte
    notes = Folder(f"{out}/_cola")
    assert sorted(notes.files()) == [
        "aside.jsonl",
        "aside/part-001.jsonl.jsonl",
        "job.json",
        "manifest.json",
        *(f"shards/{name}.json" for name in sorted(made)),
    ]
    assert json.loads(notes.cat_file("aside.jsonl"))["row"] == 61
    made_there = Folder(out)
    made_there.remove(
        "part-002.txt"
    )  # a result that is gone, one that was shortened, one without a record
    made_there.put("part-000.csv", made["part-000.csv"][:-9])
    made_there.remove("_cola/shards/2024/more.csv.json")
    with pytest.raises(ColaError, match=r"part-000.csv: its result was changed since"):
        go()
    made_there.remove("part-000.csv")
    made_there.remove("part-002.txt")
    made_there.remove("_cola/shards/2024/more.csv.json")
    assert go() == {**expected, "earlier": 1}
    assert download(out) == made
    engine = "process"  # which resumes what workers made, and is there at once
    assert go() == {**expected, "earlier": 4}
    Folder(there).put("part-000.csv", (source / "part-000.csv").read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(ColaError, match=r"part-000.csv: it was changed since it was scored"):
        go()
    for _ in range(3):
        tried("a result in a bucket lost or damaged")


def test_a_command_from_bucket_to_bucket_that_is_killed_resumes(tmp_path, model, ana, tried):
    source, there, out = (
        write_shards(tmp_path / "in", 6, 3000),
        "s3://bucket/killed/in",
        "s3://bucket/killed/out",
    )
    upload(source, there)
    command = [
        sys.executable,
        "-c",
        "from cola_nbdev.cli import main; main()",
        "score",
        str(model),
        there,
        out,
        "--engine",
        "process",
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    records, until = Folder(f"{out}/_cola/shards"), time.monotonic() + 300
    while not records.files():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert len(records.files()) < 6
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and not again.stderr, again.stderr
    assert re.search(r"6 shards, \d of them earlier, 18,000 rows", again.stdout), again.stdout
    from cola_nbdev.engine import score_folder

    score_folder(
        model, source, tmp_path / "alone", progress=False
    )  # in chunks as the command has them
    assert download(out) == results(tmp_path / "alone")
    tried("kill -9 of a command that scores from bucket to bucket")


@pytest.mark.parametrize(
    "user, source, out, message",
    [
        (
            "root",
            "s3://missing/in",
            "s3://bucket/refused",
            "s3://missing/in holds no file to score; check the path",
        ),
        (
            "root",
            "s3://bucket/given",
            "s3://missing/out",
            "s3://missing/out: no such file or directory; check the path",
        ),
        (
            "ana",
            "s3://other/in",
            "out",
            "s3://other/in cannot be reached or written (Access Denied); check the address, and",
        ),
        (
            "ana",
            "s3://bucket/given",
            "s3://bucket/given/out",
            "lie one in the other; choose another OUT",
        ),
        (
            "reader",
            "s3://bucket/given",
            "s3://bucket/refused",
            "s3://bucket/refused cannot be reached or written (Access Denied)",
        ),
        (
            "stranger",
            "s3://bucket/given",
            "out",
            "s3://bucket/given cannot be reached or written (The AWS Access Key Id you provided ",
        ),
        (
            "nobody",
            "s3://bucket/given",
            "out",
            "s3://bucket/given cannot be reached or written (Unable to locate credentials)",
        ),
        (
            "elsewhere",
            "s3://bucket/given",
            "out",
            's3://bucket/given cannot be reached or written (Could not connect to the endpoint',
        ),
        ("ana", "in", "s3://", "s3:// cannot be reached or written"),
    ],
)
def test_what_the_store_refuses_is_one_line(
    cola, tmp_path, model, shards, ana, become, user, source, out, message
):
    upload(shards[0], "s3://bucket/given")
    shutil.copytree(shards[0], tmp_path / "in")
    become(user)
    refused(cola("score", model, source, out, "--engine", "process"), message)
    become("root")
    assert (
        Folder("s3://bucket").fs.ls("") == ["bucket"] and not Folder("s3://bucket/refused").files()
    )  # nothing was made
    assert not (tmp_path / "out").exists()


def test_from_a_web_server(tmp_path, model, shards):
    source, expected, made = shards
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=source)
    handler.log_message = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{running.server_port}"
    try:
        assert (
            score(model, address, tmp_path / "out") == expected
            and results(tmp_path / "out") == made
        )
        with pytest.raises(ColaError, match="http://127.0.0.1"):
            score(model, tmp_path / "out", f"{address}/out")  # it only gives
    finally:
        running.shutdown()


def test_a_folder_that_appears_while_it_is_looked_for_is_no_file(ana, monkeypatch):
    there, real = Folder("s3://bucket/appears"), s3fs.S3FileSystem.find

    def slow(self, *arguments, **options):
        found = real(self, *arguments, **options)
        Folder("s3://bucket/appears").put("a.json", b"1")  # another process
        return found

    monkeypatch.setattr(s3fs.S3FileSystem, "find", slow)
    assert there.files() == {}
    assert there.files() == {"a.json": 1}
    with pytest.raises(ColaError, match="a.json is a file; a folder of files is expected"):
        Folder("s3://bucket/appears/a.json").files()
