# SPDX-License-Identifier: MIT
"""A good part of the standard library, imported and used; what it prints is known."""
import argparse, array, asyncio, base64, bisect, collections, concurrent.futures, configparser, contextlib
import copy, csv, ctypes, dataclasses, datetime, decimal, difflib, enum, fractions, functools, gc, gzip, hashlib
import heapq, html, io, itertools, json, logging, math, mmap, multiprocessing, os, pathlib, pickle, pprint, queue
import random, re, shutil, signal, socket, sqlite3, statistics, string, struct, subprocess, sys, tempfile
import textwrap, threading, time, traceback, types, unittest, uuid, weakref, xml.etree.ElementTree, zipfile, zlib


def pi_digits(count):
    """Gibbons' spigot."""
    q, r, t, k, n, l, digits = 1, 0, 1, 1, 3, 3, ""
    while len(digits) < count:
        if 4 * q + r - t < n * t:
            digits += str(n)
            q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * (7 * k + 2) + r * l) // (t * l), l + 2
    return digits


def square(number):
    return number * number


def check(what, got, want):
    if got != want:
        print("FAIL %s: %r, expected %r" % (what, got, want))
        sys.exit(1)


def memory():
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 1 << 20) as view:
            view[4096 * 3:4096 * 3 + 5] = b"quire"
            view.flush()
            file.seek(4096 * 3)
            check("a mapped file", file.read(5), b"quire")
    buffer = ctypes.create_string_buffer(b"abc" * 10000)
    check("ctypes", ctypes.CDLL(None).strlen(buffer), 30000)
    blocks = [bytearray(random.randrange(1, 100000)) for _ in range(300)]
    del blocks[::2]
    gc.collect()
    check("blocks", len(blocks), 150)


def processes():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        check("a pool of processes", pool.map(square, range(50)), [n * n for n in range(50)])
    done = subprocess.run([sys.executable, "-c", "print(6 * 7)"], stdout=subprocess.PIPE, check=True)
    check("a subprocess", done.stdout, b"42\n")


def threads():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        check("threads", sum(pool.map(square, range(100))), 328350)

    async def sum_later():
        return sum(await asyncio.gather(*(asyncio.sleep(0, n) for n in range(100))))
    check("asyncio", asyncio.run(sum_later()), 4950)


def data():
    raw = bytes(n * 7 % 251 for n in range(200000))
    check("zlib", zlib.decompress(zlib.compress(raw)), raw)
    check("sha256", hashlib.sha256(raw).hexdigest()[:16],
          "ff41b7e9cc397e9d")
    check("json", json.loads(json.dumps({"a": [1, 2.5, None]})), {"a": [1, 2.5, None]})
    check("pickle", pickle.loads(pickle.dumps(raw)), raw)
    with sqlite3.connect(":memory:") as base:
        base.execute("create table t(a)")
        base.executemany("insert into t values(?)", ((n,) for n in range(1000)))
        check("sqlite3", base.execute("select sum(a) from t").fetchone(), (499500,))
    check("decimal", str(decimal.Decimal(2).sqrt()), "1.414213562373095048801688724")
    check("re", re.findall(r"\b(\w)\w*", "quires of paged memory"), ["q", "o", "p", "m"])


for part in (memory, data, threads, processes):
    part()
print("pi", pi_digits(300)[-10:], "modules", len([name for name in sys.modules if "." not in name]) > 100)
