"""Reads from a TCP server as slowly as it is told, with a small receive buffer, which Node cannot set.

usage: slowReader.py PORT RCVBUF MSS
in:  "take BYTES MILLISECONDS" (reads so many bytes every so often), "stop", "send TEXT"
out: "connected", "total BYTES" (for every "stop"), "end REASON BYTES"
"""
import os
import select
import socket
import sys
import threading
import time

port, rcvbuf, mss = map(int, sys.argv[1:4])
conn = socket.socket()
conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
if mss > 0:
    # segments as on a real network: on loopback they are 64 KiB, and so large are the steps of the send buffer
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
conn.connect(("127.0.0.1", port))
print("connected", flush=True)

pace = None
total = 0
wake = threading.Event()


def listen():
    global pace
    for line in sys.stdin:
        words = line.split()
        if words[0] == "take":
            pace = (int(words[1]), int(words[2]) / 1000)
            wake.set()
        elif words[0] == "send":
            conn.sendall((" ".join(words[1:]) + "\n").encode())
        elif words[0] == "stop":
            pace = None
            print("total", total, flush=True)
    # whoever started us is gone
    os._exit(0)


threading.Thread(target=listen, daemon=True).start()
while True:
    current = pace
    if current is None:
        wake.wait(0.05)
        wake.clear()
        continue
    chunk, pause = current
    began = time.monotonic()
    left = chunk
    try:
        while left > 0 and pace is not None:
            if not select.select([conn], [], [], pause)[0]:
                break
            data = conn.recv(left)
            if not data:
                print("end eof", total, flush=True)
                sys.exit()
            total += len(data)
            left -= len(data)
    except OSError as error:
        print("end", type(error).__name__, total, flush=True)
        sys.exit()
    time.sleep(max(0, pause - (time.monotonic() - began)))
