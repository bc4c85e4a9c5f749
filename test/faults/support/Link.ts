/** Hosts as network namespaces, the wires between them, and what can go wrong on a wire. */
import * as ChildProcess from "node:child_process"
import { atEnd } from "./cleanUp.ts"

const run = (command: string, args: ReadonlyArray<string>): void => {
  const { error, status, stderr } = ChildProcess.spawnSync(command, args, { encoding: "utf8" })
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${String(error ?? stderr).trim()}`)
}

const ip = (...args: ReadonlyArray<string>): void => run("ip", args)

let made = 0

export class Host {
  readonly name = `holdfast-${process.pid}-${++made}`

  constructor() {
    ip("netns", "add", this.name)
    this.#undo = atEnd(() => ip("netns", "del", this.name))
    ip("-n", this.name, "link", "set", "lo", "up")
  }

  readonly #undo: () => void

  /** The command that runs another one on this host. */
  readonly within = (command: string, args: ReadonlyArray<string>): ReadonlyArray<string> => [
    "ip",
    "netns",
    "exec",
    this.name,
    command,
    ...args
  ]

  do(command: string, ...args: ReadonlyArray<string>): void {
    const [first, ...rest] = this.within(command, args)
    run(first, rest)
  }

  /** Changes its packet filter or its translation of addresses, in the words of `nft`. */
  filter(rules: string): void {
    this.do("nft", rules)
  }

  set(name: string, value: number | string): void {
    this.do("sysctl", "-qw", `${name}=${value}`)
  }

  /** Routes what it has no address for. */
  route(by: string): void {
    ip("-n", this.name, "route", "add", "default", "via", by)
  }

  remove(): void {
    this.#undo()
  }
}

/** A wire between two hosts: their addresses are NET.1 and NET.2. */
const wire = (left: Host, right: Host, net: string): void => {
  const [near, far] = [`v${net.split(".").at(-1)}`, `w${net.split(".").at(-1)}`]
  ip("-n", left.name, "link", "add", near, "type", "veth", "peer", "name", far, "netns", right.name)
  ip("-n", left.name, "addr", "add", `${net}.1/24`, "dev", near)
  ip("-n", right.name, "addr", "add", `${net}.2/24`, "dev", far)
  ip("-n", left.name, "link", "set", near, "up")
  ip("-n", right.name, "link", "set", far, "up")
}

export type Direction = "to the server" | "to the client"

/** Where a server and a client are. */
export interface Hosts {
  readonly server: Host
  readonly client: Host
  /** The server's address, for the client. */
  readonly address: string
}

/** A server's host and a client's host, with a wire between them. */
export class Link implements Hosts {
  readonly server = new Host()
  readonly client = new Host()
  readonly address = "10.213.1.1"

  constructor() {
    wire(this.server, this.client, "10.213.1")
  }

  /** Everything that goes there vanishes from now on, without a word to its sender. */
  lose(...directions: ReadonlyArray<Direction>): void {
    for (const direction of directions) {
      const host = direction === "to the server" ? this.server : this.client
      host.filter("add table inet loss; add chain inet loss in { type filter hook input priority 0; policy drop; }")
    }
  }

  cut(): void {
    this.lose("to the server", "to the client")
  }

  /** Kernels hold next to nothing of what is not read. */
  smallBuffers(): void {
    for (const host of [this.server, this.client]) {
      for (const way of ["rmem", "wmem"]) host.set(`net.ipv4.tcp_${way}`, "4096 131072 262144")
    }
  }

  heal(): void {
    for (const host of [this.server, this.client]) {
      host.filter("add table inet loss; delete table inet loss")
    }
  }

  remove(): void {
    this.server.remove()
    this.client.remove()
  }
}

/** A router between the hosts, which translates the client's address, and forgets a connection that was quiet for a time. */
export class NatLink implements Hosts {
  readonly server = new Host()
  readonly client = new Host()
  readonly router = new Host()
  readonly address = "10.213.2.2"

  /** `remembers`: for how many seconds a quiet connection is known. */
  constructor(remembers: number) {
    wire(this.client, this.router, "10.213.3")
    wire(this.router, this.server, "10.213.2")
    this.client.route("10.213.3.2")
    this.router.set("net.ipv4.ip_forward", 1)
    this.ports("20000-29999")
    // there once a rule tracks connections
    this.router.set("net.netfilter.nf_conntrack_tcp_timeout_established", remembers)
  }

  /** Connections that it meets from now on have such ports outside. */
  ports(range: string): void {
    this.router.filter(
      "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; flush chain ip nat out; " +
        `add rule ip nat out ip protocol tcp oifname "v2" masquerade to :${range}`
    )
  }

  /** Packets of a connection whose beginning it does not remember vanish, as at most routers. */
  forgetsForGood(): void {
    this.router.set("net.netfilter.nf_conntrack_tcp_loose", 0)
    this.router.filter(
      "add table inet strict; add chain inet strict through { type filter hook forward priority 0; }; " +
        "add chain inet strict in { type filter hook input priority 0; }; " +
        "add rule inet strict through ct state invalid drop; " +
        "add rule inet strict in ip protocol tcp drop"
    )
  }

  remove(): void {
    for (const host of [this.server, this.client, this.router]) host.remove()
  }
}
