"""Threads, JSON, regular expressions, child processes and forked workers."""
import hashlib
import json
import multiprocessing
import re
import subprocess
import sys
import threading


def digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def tree(depth, number):
    if depth == 0:
        return number % 1013
    return {f"key{number}-{child}": tree(depth - 1, number * 5 + child) for child in range(5)}


def worker(number):
    words = [f"w{number * index % 7919}" for index in range(20000)]
    return digest(sorted(set(words)))


def main():
    text = json.dumps(tree(6, 1), indent=1)
    print("json", len(text), digest(json.loads(text)))
    print("re", digest(re.findall(r"key(\d+)-([0-3])\"", text)), len(re.sub(r"\s+", "", text)))

    results = {}
    threads = [threading.Thread(target=lambda n=n: results.__setitem__(n, worker(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("threads", digest(sorted(results.items())))

    for number in range(4):
        script = f"print(sum(len(str(i)) for i in range({number} * 10000)))"
        child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        print("subprocess", child.stdout.strip())

    # Forked while another thread takes and frees memory.
    stop = threading.Event()

    def take_and_free():
        kept = [b""] * 500
        number = 0
        while not stop.is_set():
            kept[number % 500] = bytes(number * 31 % 5000)
            number += 1

    busy = threading.Thread(target=take_and_free)
    busy.start()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        print("fork", digest(pool.map(worker, range(12))))
    stop.set()
    busy.join()

    blocks = [bytearray(1 << n) for n in range(25)]
    for block in blocks:
        block.extend(block[:100])
    print("bytes", sum(map(len, blocks)))


main()
