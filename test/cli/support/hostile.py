"""Bad manners of every kind, from a seed: python3 hostile.py SEED ROUNDS URL...

Every round is bounded by timeouts of a second. Says how many rounds it did.
"""
import random
import socket
import struct
import sys
from urllib.parse import urlparse

seed, rounds, urls = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
rand = random.Random(seed)

# the beginning of a TLS 1.2 record with a ClientHello that promises more than it brings
half_hello = bytes.fromhex("1603010200010001fc0303") + bytes(32)
upgrade = (
    b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def noise(most):
    return rand.randbytes(rand.randint(1, most))


attacks = [
    lambda: noise(10),
    lambda: noise(5000),
    lambda: noise(200000),
    lambda: b"\xff\xff\xff\xff",
    lambda: b"\x80\x00\x00\x00" + noise(100),
    lambda: b"\x00\x10\x00\x00" + noise(1000),
    lambda: b"\x00\x00",
    lambda: b"a line without an end",
    lambda: b"x" * 300000,
    lambda: b"\n" * 20000,
    lambda: b"ping\n" * 5000,
    lambda: b"\xc3\x28\n\xff\n\x00\n",
    lambda: half_hello,
    lambda: half_hello + noise(600),
    lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    lambda: b"GET /live HTTP/1.1\r\n",
    lambda: b"GET /live HTTP/1.1\r\nX: " + b"y" * 100000,
    lambda: b"POST /live HTTP/1.1\r\nContent-Length: 99999999\r\n\r\nabc",
    lambda: upgrade,
    lambda: upgrade + noise(200),
    # a masked text that is not UTF-8, a frame that claims 2^63-1 bytes, a fragment that is never continued, not masked
    lambda: upgrade + b"\x81\x82\x00\x00\x00\x00\xc3\x28",
    lambda: upgrade + b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4) + noise(100),
    lambda: upgrade + b"\x01\x83\x00\x00\x00\x00abc",
    lambda: upgrade + b"\x81\x03abc",
    lambda: b"",
]


def connect(url):
    parsed = urlparse(url)
    if parsed.scheme == "unix":
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(1)
        s.connect(parsed.path)
    else:
        s = socket.create_connection((parsed.hostname, parsed.port), 1)
    return s


for i in range(rounds):
    s = connect(urls[i % len(urls)])
    try:
        s.sendall(attacks[rand.randrange(len(attacks))]())
        manner = rand.choice(["reset", "reset", "close", "half", "read"])
        if manner == "reset":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif manner == "half":
            s.shutdown(socket.SHUT_WR)
        if manner in ("half", "read"):
            s.settimeout(0.02)
            while s.recv(65536):
                pass
    except OSError:
        # that it throws us out is what we came for
        pass
    s.close()
print("rounds", rounds)
