"""A client of the native protocol, from its documentation and Python's standard library alone.

usage: native_client.py HOST PORT LOWEST HIGHEST < messages, one a line

Prints what it is told, one line each: "welcome VERSION PING_EVERY MIN_PING_EVERY AFTER SPREAD", "data MESSAGE",
"ping TOKEN", "away AFTER SPREAD WHY", "close CODE FLAGS AFTER SPREAD TEXT", "end".
"""
import select
import socket
import struct
import sys

HELLO, WELCOME, PING, PONG, DATA, GOING_AWAY, CLOSE = range(1, 8)


def frame(kind, body=b""):
    return struct.pack(">IB", len(body) + 1, kind) + body


def say(*words):
    print(*words, flush=True)


def told(kind, body):
    """Prints a frame; returns what to answer."""
    if kind == WELCOME:
        say("welcome", *struct.unpack_from(">BIIII", body))
    elif kind == PING:
        say("ping", struct.unpack_from(">I", body)[0])
        return frame(PONG, body[:4])
    elif kind == DATA:
        say("data", body.decode())
    elif kind == GOING_AWAY:
        say("away", *struct.unpack_from(">II", body), body[8:].decode())
    elif kind == CLOSE:
        say("close", *struct.unpack_from(">BBII", body), body[10:].decode())
    elif kind != PONG:
        raise ValueError(f"a frame of type {kind}")
    return b""


def main(host, port, lowest, highest):
    wire = socket.create_connection((host, int(port)))
    wire.sendall(frame(HELLO, b"HF" + struct.pack(">BBII", int(lowest), int(highest), 25_000, 60_000)))
    held = typed = b""
    welcomed = ended = False
    while True:
        # the greeting comes first
        inputs = [wire, sys.stdin] if welcomed and not ended else [wire]
        for ready in select.select(inputs, [], [])[0]:
            if ready is sys.stdin:
                chunk = sys.stdin.buffer.raw.read(65536)
                ended = chunk == b""
                *messages, typed = (typed + chunk).split(b"\n")
                for message in messages:
                    wire.sendall(frame(CLOSE, struct.pack(">BBII", 0, 0, 0, 0)) if message == b"quit"
                                 else frame(DATA, message))
                continue
            chunk = wire.recv(65536)
            if chunk == b"":
                return say("end")
            held += chunk
            while len(held) >= 4 and len(held) >= 4 + (size := struct.unpack_from(">I", held)[0]):
                body, held = held[4:4 + size], held[4 + size:]
                welcomed = welcomed or body[0] == WELCOME
                answer = told(body[0], body[1:])
                if answer:
                    wire.sendall(answer)


main(*sys.argv[1:])
