"""Kinds of damage of a finished run, each with what a page must say about it: (page, what it does to the folder, words of the sentence)."""

import json
import os
import shutil
import struct
import zlib

import pandas

MANIFEST, STATUS, STUDY, LOG, REPORT = "manifest.json", "status.json", "study.json", "run.log", "report/report.json"
NEURONS = "report/neurons.parquet"


def text(name, content):
    def damage(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        os.utime(folder / name, (1.0, 1.0))  # a study file written just now would be that of a run that starts

    return damage


def value(name, *path_and_value):
    """Change one value within a JSON file."""
    *path, last, new = path_and_value

    def damage(folder):
        document = json.loads((folder / name).read_text())
        inner = document
        for key in path:
            inner = inner[key]
        if new is GONE:
            del inner[last]
        else:
            inner[last] = new
        (folder / name).write_text(json.dumps(document))

    return damage


def a_folder(name):
    def damage(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def cut(name):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


def every_image(content):
    """Write something in the place of each picture of the report; None removes them."""

    def damage(folder):
        for path in (folder / "report" / "images").iterdir():
            path.unlink()
            if content is not None:
                path.write_bytes(content)

    return damage


def image_path(path):
    def damage(folder):
        document = json.loads((folder / REPORT).read_text())
        for row in document["images"]:
            row["path"] = path
        (folder / REPORT).write_text(json.dumps(document))

    return damage


def table(change):
    def damage(folder):
        path = folder / NEURONS
        change(pandas.read_parquet(path)).to_parquet(path)

    return damage


def png(width, height):
    """The bytes of a grey PNG that says so many pixels and holds a few bytes for them."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


GONE = object()
CURE = r"[Rr]un the study again|Write it again|Render it with|Remove this file|was expected|has no \"|has an unknown key|cannot be read"
LOOKED = {  # seen when the folder is looked at: one sentence in the place of every page
    "manifest truncated": (cut(MANIFEST), r"manifest.json is damaged"),
    "manifest a list": (text(MANIFEST, "[]"), r"manifest.json is damaged: an object with layout, nodes"),
    "manifest empty": (text(MANIFEST, ""), r"manifest.json is damaged"),
    "manifest not UTF-8": (text(MANIFEST, b"\xff\xfe\x00"), r"manifest.json is damaged"),
    "manifest nested too deeply": (text(MANIFEST, "[" * 100_000), r"manifest.json is damaged"),
    "manifest a folder": (a_folder(MANIFEST), r"manifest.json is damaged"),
    "manifest of another layout": (value(MANIFEST, "layout", 99), r"another version of the workbench \(layout 99"),
    "manifest layout text": (value(MANIFEST, "layout", "1"), r"another version of the workbench \(layout 1"),
    "nodes null": (value(MANIFEST, "nodes", None), r"its nodes are not those of a run"),
    "nodes of null": (value(MANIFEST, "nodes", [None]), r"its nodes are not those of a run"),
    "nodes text": (value(MANIFEST, "nodes", "generate"), r"its nodes are not those of a run"),
    "node without id": (value(MANIFEST, "nodes", 0, "id", GONE), r"its nodes are not those of a run"),
    "node stage null": (value(MANIFEST, "nodes", 0, "stage", None), r"its nodes are not those of a run"),
    "node variant a number": (value(MANIFEST, "nodes", 0, "variant", 3), r"its nodes are not those of a run"),
    "shards null": (value(MANIFEST, "nodes", 0, "shards", None), r"its nodes are not those of a run"),
    "shard outside": (value(MANIFEST, "nodes", 0, "shards", ["../../../etc"]), r"its nodes are not those of a run"),
    "stage outside": (value(MANIFEST, "nodes", 0, "stage", "../../etc"), r"its nodes are not those of a run"),
    "status a list": (text(STATUS, "[]"), r"status.json is damaged.*Remove this file"),
    "status pid text": (value(STATUS, "pid", "x"), r"status.json is damaged.*Remove this file"),
    "status pid -5": (value(STATUS, "pid", -5), r"status.json is damaged.*Remove this file"),
    "status pid huge": (value(STATUS, "pid", 10**30), r"status.json is damaged.*Remove this file"),
    "status pid true": (value(STATUS, "pid", True), r"status.json is damaged.*Remove this file"),
    "status started text": (value(STATUS, "pid_started", "noon"), r"status.json is damaged.*Remove this file"),
    "status done text": (value(STATUS, "done", "x"), r"status.json is damaged.*Remove this file"),
    "status node a list": (value(STATUS, "node", ["x"]), r"status.json is damaged.*Remove this file"),
    "report truncated": (cut(REPORT), r"report.json is not valid JSON"),
    "report a list": (text(REPORT, "[]"), r"an object was expected at the top level"),
    "report empty": (text(REPORT, ""), r"report.json is not valid JSON"),
    "report not UTF-8": (text(REPORT, b"\xff\xfe\x00"), r"report.json is not valid JSON"),
    "report nested too deeply": (text(REPORT, '{"a":' * 100_000), r"report.json is damaged: it is nested too deeply"),
    "report a folder": (a_folder(REPORT), r"cannot be read"),
    "report of another schema": (value(REPORT, "schema_version", 2), r"schema_version 2; this workbench reads 1"),
    "report without rates": (value(REPORT, "rates", GONE), r'no "rates"'),
    "report with text for a rate": (value(REPORT, "rates", 0, "rate", "x"), r'"rate": number was expected'),
    "report with a row null": (value(REPORT, "images", 0, None), r'"images", row 0: an object was expected'),
    "report with NaN": (text(REPORT, '{"schema_version": NaN}'), r"NaN is no JSON number"),
    "verdict's words are numbers": (value(REPORT, "verdict", "words", [5]), r'"verdict"'),
}
PICTURES = {  # the pages stay, with one sentence under the pictures
    "images missing": (every_image(None), r"cannot be read"),
    "images empty": (every_image(b""), r"cannot be read"),
    "images of text": (every_image(b"x" * 500), r"cannot be read"),
    "images cut short": (every_image(png(64, 64)[:60]), r"cannot be read"),
    "image that takes all memory": (every_image(png(30_000, 30_000)), r"cannot be read|30000 x 30000 pixels"),
    "image rather large": (every_image(png(9_000, 9_000)), r"has 9000 x 9000 pixels"),
    "image path outside": (image_path("../../../../etc/passwd"), r"lies outside"),
    "image path absolute": (image_path("/etc/passwd"), r"lies outside"),
    "image path of the network": (image_path("http://evil.example/x.png"), r"cannot be read"),
    "image path with a null": (image_path("a\0b.png"), r"is no path"),
    "image path a folder": (image_path("images"), r"cannot be read"),
    "image path very long": (image_path("x" * 6000), r"\(6000 letters\)"),
}
TABLES = {  # the pages Neurons and Sensitivity say so where the table would be
    "neurons of text": (text(NEURONS, b"x" * 100), r"neurons.parquet is damaged"),
    "neurons cut short": (cut(NEURONS), r"neurons.parquet is damaged"),
    "neurons a folder": (a_folder(NEURONS), r"neurons.parquet"),
    "neurons of other columns": (
        table(lambda t: pandas.DataFrame({"a": [1], "b": ["x"]})),
        r"no table of neurons: layer, site, index missing",
    ),
    "neurons without rows": (table(lambda t: t.head(0)), r"no table of neurons: it holds no neuron"),
    "neurons with numbers for layers": (table(lambda t: t.assign(layer=1)), r"no table of neurons: layer missing or of another type"),
    "neurons with text for numbers": (table(lambda t: t.assign(index="x", score="y")), r"no table of neurons: (score, index|index, score)"),
    "neurons with text for roles": (table(lambda t: t.assign(in_concept="x")), r"no table of neurons: in_concept"),
    "neurons with layers null": (table(lambda t: t.assign(layer=None)), r"no table of neurons: layer missing or of another type"),
}
HARMLESS = {  # the pages do not need it
    "log of bytes": text(LOG, bytes(range(256)) * 50),
    "log with a quotation mark that is not closed": text(LOG, "2026 workbench run 'x: 40 nodes to do\n"),
    "log a folder": a_folder(LOG),
    "status gone": lambda folder: (folder / STATUS).unlink(),
    "study a list": text(STUDY, "[]"),
    "results gone": lambda folder: shutil.rmtree(folder / "nodes"),
}
